/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/takeover/script.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STEPS_MAX 48
#define DATA_MAX 48
#define DATA_BYTES 8192
#define WORDS_MAX 400
#define ARGUMENTS 6

enum step_kind { STEP_CALL, STEP_FORK, STEP_I386, STEP_X32, STEP_ACK, STEP_RUN };

struct step {
	enum step_kind kind;
	const char *name;
	long number;
	unsigned count;
	const char *arguments[ARGUMENTS];
};

/* A place in data that is known only when the steps run. */
struct patch {
	unsigned at;
	bool address; /* of data; otherwise the result of a step */
	const char *of;
};

struct data {
	const char *name;
	unsigned size, patch_count;
	struct patch patches[16];
	_Alignas(16) uint8_t bytes[DATA_BYTES];
};

struct script {
	const char *name;
	bool bare;
	unsigned step_count, data_count;
	struct step steps[STEPS_MAX];
	long results[STEPS_MAX];
	struct data data[DATA_MAX];
	char text[SCRIPT_BYTES_MAX + 1];
};

/* write(2) alone: it is in every filter, and what stdio would ask besides may not be. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	char line[256];
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(line, sizeof(line) - 1, format, arguments);
	va_end(arguments);
	if (length < 0 || length > (int)sizeof(line) - 2)
		length = (int)sizeof(line) - 2;
	line[length] = '\n';
	(void)!write(STDOUT_FILENO, line, (size_t)length + 1);
}

/* A script is the test's own: whatever is wrong with it ends the run loudly. */
static _Noreturn void wrong(const char *what, const char *found)
{
	say("script: %s: \"%s\"", what, found);
	_exit(120);
}

static uint64_t number_of(const char *text)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = text[0] == '-' ? (uint64_t)strtoll(text, &end, 0) : strtoull(text, &end, 0);
	if (errno || end == text || *end)
		wrong("expected a number", text);
	return value;
}

static struct data *data_find(struct script *script, const char *name)
{
	for (unsigned i = 0; i < script->data_count; i++)
		if (strcmp(script->data[i].name, name) == 0)
			return &script->data[i];
	wrong("no such data", name);
}

/* -- Reading it ---------------------------------------------------------------------------------------------------------------- */

static uint8_t *room(struct data *data, size_t count)
{
	uint8_t *at = data->bytes + data->size;

	if (count > sizeof(data->bytes) - data->size)
		wrong("too many bytes", data->name);
	data->size += (unsigned)count;
	return at;
}

static void put(struct data *data, uint64_t value, unsigned size, bool big_endian)
{
	uint8_t *at = room(data, size);

	for (unsigned i = 0; i < size; i++)
		at[big_endian ? size - 1 - i : i] = (uint8_t)(value >> (8 * i));
}

static unsigned nibble(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a') + 10;
	wrong("expected a hexadecimal digit", (char[]){ c, '\0' });
}

static void put_hex(struct data *data, const char *text)
{
	for (; *text; text += 2)
		*room(data, 1) = (uint8_t)(nibble(text[0]) << 4 | nibble(text[1]));
}

static void put_text(struct data *data, const char *text)
{
	for (; *text; text++) {
		if (*text == '%' && text[1] && text[2]) {
			*room(data, 1) = (uint8_t)(nibble(text[1]) << 4 | nibble(text[2]));
			text += 2;
		} else {
			*room(data, 1) = (uint8_t)*text;
		}
	}
}

static void put_later(struct data *data, bool address, const char *of)
{
	if (data->patch_count == ARRAY_SIZE(data->patches))
		wrong("too many addresses", data->name);
	data->patches[data->patch_count++] = (struct patch){ .at = data->size, .address = address, .of = of };
	(void)room(data, address ? sizeof(uint64_t) : sizeof(uint32_t));
}

static void item_read(struct data *data, char *word)
{
	char *value = strchr(word, ':');

	if (!value)
		wrong("expected KIND:VALUE", word);
	*value++ = '\0';
	if (strcmp(word, "s") == 0)
		put_text(data, value);
	else if (strcmp(word, "x") == 0)
		put_hex(data, value);
	else if (strcmp(word, "z") == 0)
		(void)room(data, number_of(value)); /* zero from the start */
	else if (strcmp(word, "p") == 0 || strcmp(word, "r") == 0)
		put_later(data, word[0] == 'p', value);
	else if (word[0] == 'u')
		put(data, number_of(value), (unsigned)number_of(word + 1) / 8, false);
	else if (strncmp(word, "be", 2) == 0)
		put(data, number_of(value), (unsigned)number_of(word + 2) / 8, true);
	else
		wrong("no such kind of item", word);
}

static void data_read(struct script *script, char **words, unsigned count)
{
	struct data *data = &script->data[script->data_count];

	if (count < 1 || script->data_count == DATA_MAX)
		wrong("expected data NAME ITEM..., and not too much of it", script->name);
	script->data_count++;
	data->name = words[0];
	for (unsigned i = 1; i < count; i++)
		item_read(data, words[i]);
}

static void step_read(struct script *script, enum step_kind kind, char **words, unsigned count)
{
	struct step *step = &script->steps[script->step_count];
	bool numbered = kind == STEP_I386 || kind == STEP_X32, named = kind == STEP_CALL || kind == STEP_FORK;

	if (script->step_count == STEPS_MAX || count > ARGUMENTS + 1)
		wrong("too many steps or arguments", script->name);
	script->step_count++;
	*step = (struct step){ .kind = kind, .name = kind == STEP_ACK ? "ack" : "run" };
	if (numbered || named) {
		if (count < 1)
			wrong("a system call without a name", script->name);
		step->name = words[0];
		/* libseccomp knows what the C library's headers do not: bpf in 2022 and landlock in 2026. */
		step->number = named ? seccomp_syscall_resolve_name(words[0]) : (long)number_of(words[0]);
		if (step->number == __NR_SCMP_ERROR)
			wrong("no such system call", words[0]);
		words++, count--;
	}
	step->count = count;
	for (unsigned i = 0; i < count; i++)
		step->arguments[i] = words[i];
}

static void line_read(struct script *script, char *line)
{
	static const struct {
		const char *word;
		enum step_kind kind;
	} kinds[] = { { "call", STEP_CALL }, { "fork", STEP_FORK }, { "i386", STEP_I386 },
		      { "x32", STEP_X32 },   { "ack", STEP_ACK },   { "run", STEP_RUN } };
	char *words[WORDS_MAX], *rest = NULL;
	unsigned count = 0;

	for (char *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		if (count == WORDS_MAX)
			wrong("too many words", words[0]);
		words[count++] = word;
	}
	if (count == 0)
		return;
	if (strcmp(words[0], "attempt") == 0 && count == 2) {
		script->name = words[1];
		return;
	}
	if (strcmp(words[0], "bare") == 0) {
		script->bare = true;
		return;
	}
	if (strcmp(words[0], "data") == 0) {
		data_read(script, words + 1, count - 1);
		return;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strcmp(words[0], kinds[i].word) == 0) {
			step_read(script, kinds[i].kind, words + 1, count - 1);
			return;
		}
	}
	wrong("no such line", words[0]);
}

/* Past the dynamic loader's own reading; as in any file, the end is what counts. */
static int tail_read(const char *path, char *text)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t length;
	struct stat stat;
	off_t size;

	if (fd < 0 || fstat(fd, &stat) < 0)
		return -errno;
	size = stat.st_size;
	if (size < (off_t)sizeof(length) || pread(fd, &length, sizeof(length), size - (off_t)sizeof(length)) != sizeof(length))
		return -EBADMSG;
	if (length > SCRIPT_BYTES_MAX || (off_t)length > size - (off_t)sizeof(length))
		return -EBADMSG;
	if (pread(fd, text, length, size - (off_t)(sizeof(length) + length)) != (ssize_t)length)
		return -EBADMSG;
	text[length] = '\0';
	return 0;
}

int script_load(const char *path, struct script **script)
{
	struct script *made = calloc(1, sizeof(*made));
	char *rest = NULL;
	int r = made ? tail_read(path, made->text) : -ENOMEM;

	if (r < 0) {
		say("no script at the end of %s: %s", path, strerror(-r));
		free(made);
		return r;
	}
	made->name = "?";
	for (char *line = strtok_r(made->text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		line_read(made, line);
	*script = made;
	return 0;
}

bool script_is_bare(const struct script *script)
{
	return script->bare;
}

/* -- Carrying it out ----------------------------------------------------------------------------------------------------------- */

static long value_of(struct script *script, const char *argument)
{
	if (argument[0] == '@')
		return (long)data_find(script, argument + 1)->bytes;
	if (argument[0] == '$')
		return script->results[number_of(argument + 1) % STEPS_MAX];
	return (long)number_of(argument);
}

static void patch_all(struct script *script)
{
	for (unsigned i = 0; i < script->data_count; i++) {
		struct data *data = &script->data[i];

		for (unsigned j = 0; j < data->patch_count; j++) {
			const struct patch *patch = &data->patches[j];
			uint64_t address;
			uint32_t result;

			if (patch->address) {
				address = (uintptr_t)data_find(script, patch->of)->bytes;
				memcpy(data->bytes + patch->at, &address, sizeof(address));
			} else {
				result = (uint32_t)script->results[number_of(patch->of) % STEPS_MAX];
				memcpy(data->bytes + patch->at, &result, sizeof(result));
			}
		}
	}
}

static long system_call(long number, const long *a)
{
	long result = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);

	return result == -1 ? -errno : result;
}

static long fork_call(long number, const long *a)
{
	long result = system_call(number, a);

	if (result == 0)
		(void)syscall(SYS_exit_group, 0); /* the child */
	return result;
}

/* The gate of 32-bit programs, which stands open to 64-bit ones as well. */
static long i386_call(long number, const long *a)
{
#ifdef __x86_64__
	long result = number;

	__asm__ volatile("int $0x80" : "+a"(result) : "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
			 : "memory", "cc", "r8", "r9", "r10", "r11");
	return (int)result;
#else
	(void)number, (void)a;
	return -ENOSYS;
#endif
}

static long netlink_answer(int fd)
{
	union {
		struct nlmsghdr header;
		uint8_t bytes[32768];
	} answer;
	struct nlmsgerr error;
	ssize_t length = recv(fd, &answer, sizeof(answer), 0);

	if (length < 0)
		return -errno;
	if (length < (ssize_t)(sizeof(answer.header) + sizeof(error)) || answer.header.nlmsg_type != NLMSG_ERROR)
		return length;
	memcpy(&error, answer.bytes + NLMSG_HDRLEN, sizeof(error));
	return error.error;
}

static long run_instructions(void)
{
	static const uint8_t give_back_7[] = { 0xb8, 7, 0, 0, 0, 0xc3 }; /* mov $7, %eax; ret */
	uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int (*function)(void);

	if (page == MAP_FAILED)
		return -errno;
	memcpy(page, give_back_7, sizeof(give_back_7));
	memcpy(&function, &page, sizeof(function));
	return function();
}

static long step_run(struct script *script, const struct step *step)
{
	long a[ARGUMENTS] = { 0 };

	for (unsigned i = 0; i < step->count; i++)
		a[i] = value_of(script, step->arguments[i]);
	switch (step->kind) {
	case STEP_CALL:
		return system_call(step->number, a);
	case STEP_FORK:
		return fork_call(step->number, a);
	case STEP_I386:
		return i386_call(step->number, a);
	case STEP_X32:
		return system_call(0x40000000 | step->number, a);
	case STEP_ACK:
		return netlink_answer((int)a[0]);
	default:
		return run_instructions();
	}
}

int script_run(struct script *script)
{
	say("takeover %s begin", script->name);
	for (unsigned i = 0; i < script->step_count; i++) {
		const struct step *step = &script->steps[i];
		const char *name;
		long result;

		patch_all(script);
		result = step_run(script, step);
		script->results[i] = result;
		if (result < 0 && result >= -4095) {
			name = strerrorname_np((int)-result);
			say("takeover %s %u %s %s", script->name, i, step->name, name ? name : "E?");
			return 1;
		}
		say("takeover %s %u %s done %ld", script->name, i, step->name, result);
	}
	say("takeover %s end", script->name);
	return 0;
}
