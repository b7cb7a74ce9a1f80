/* SPDX-License-Identifier: Apache-2.0 */
/* What loopback audit makes of seccomp filters: the table's own, and others. */
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "cli/loopback/audit_bpf.h"
#include "tests/unit/unit.h"
#include "wg-launch/filter.h"

#define ROWS_MAX 512

static const struct process *process_of(const char *name)
{
	const struct process *process = processes;

	while (strcmp(process->name, name) != 0)
		process++;
	return process;
}

static struct filter declared_of(const struct process *process)
{
	struct filter filter;

	ck_assert_int_eq(filter_declared(process, &filter), 0);
	return filter;
}

static uint32_t answer(const struct filter *filter, int call, uint64_t first, uint64_t second)
{
	const struct seccomp_data data = { .nr = call, .arch = seccomp_arch_native(), .args = { first, second } };

	return filter_run(filter->code, filter->count, &data) & SECCOMP_RET_ACTION_FULL;
}

START_TEST(a_filter_answers_as_its_table_says)
{
	struct filter filter = declared_of(process_of("netd"));
	struct seccomp_data foreign = { .nr = SCMP_SYS(read), .arch = 1 };

	ck_assert_uint_eq(answer(&filter, SCMP_SYS(read), 0, 0), SECCOMP_RET_ALLOW);
	ck_assert_uint_eq(answer(&filter, SCMP_SYS(execve), 0, 0), SECCOMP_RET_KILL_PROCESS);
	ck_assert_uint_eq(answer(&filter, SCMP_SYS(socket), AF_UNIX, 0), SECCOMP_RET_ALLOW);
	ck_assert_uint_eq(answer(&filter, SCMP_SYS(socket), AF_INET, 0), SECCOMP_RET_KILL_PROCESS);
	ck_assert_uint_ne(filter_run(filter.code, filter.count, &foreign) & SECCOMP_RET_ACTION_FULL, SECCOMP_RET_ALLOW);
	free(filter.code);
}
END_TEST

START_TEST(the_same_table_makes_the_same_filter)
{
	for (const struct process *process = processes; process->name; process++) {
		struct filter one = declared_of(process), other = declared_of(process);
		char digest[FILTER_DIGEST_TEXT], again[FILTER_DIGEST_TEXT];

		ck_assert(filter_same(&one, other.code, other.count));
		ck_assert_str_eq(filter_digest(&one, one.code, one.count, digest),
				 filter_digest(&one, other.code, other.count, again));
		ck_assert_int_eq(strncmp(digest, "sha256:", 7), 0);
		ck_assert_uint_eq(strlen(digest), FILTER_DIGEST_TEXT - 1);
		free(one.code);
		free(other.code);
	}
}
END_TEST

START_TEST(no_two_processes_have_one_filter)
{
	struct filter netd = declared_of(process_of("netd")), fetchd = declared_of(process_of("fetchd"));

	ck_assert(!filter_same(&netd, fetchd.code, fetchd.count));
	free(netd.code);
	free(fetchd.code);
}
END_TEST

/* Where the launcher's name of a program happens to lie counts for nothing; everything else does. */
START_TEST(a_launcher_s_pointer_is_loose)
{
	const struct process *process = process_of("wg-launch");
	struct filter declared = declared_of(process);
	struct sock_filter *code = NULL;
	size_t count = 0, loose = 0;

	ck_assert_int_eq(filter_program(process->privileges, (const char *)(uintptr_t)0x7f0012345678ULL, &code, &count), 0);
	ck_assert(filter_same(&declared, code, count));
	for (size_t i = 0; i < declared.count; i++)
		loose += declared.loose[i];
	ck_assert_uint_eq(loose, 2); /* both halves */
	for (size_t i = 0; i < count; i++) {
		code[i].k ^= 1;
		ck_assert_int_eq(filter_same(&declared, code, count), declared.loose[i]);
		code[i].k ^= 1;
	}
	free(code);
	free(declared.code);
}
END_TEST

/* A table with a row more. */
static void expect_beyond(const char *name, struct privilege extra, const char *words)
{
	const struct process *process = process_of(name);
	struct filter declared = declared_of(process);
	static struct privilege rows[ROWS_MAX];
	const struct privileges more = { rows, process->privileges->count + 1 };
	_cleanup_phrase_ struct phrase names = { .text = NULL };
	struct filter_view view;
	struct sock_filter *code = NULL;

	ck_assert_uint_lt(more.count, ROWS_MAX);
	memcpy(rows, process->privileges->rows, process->privileges->count * sizeof(rows[0]));
	rows[more.count - 1] = extra;
	ck_assert_int_eq(sandbox_program(&more, &code, &view.count), 0);
	view.code = code;
	ck_assert_uint_eq(filters_beyond(process, &declared, &view, 1, &names) > 0, words[0] != '\0');
	ck_assert_msg(strncmp(phrase_text(&names), words, strlen(words)) == 0, "found \"%s\"", phrase_text(&names));
	free(code);
	free(declared.code);
}

START_TEST(what_gets_through_beyond_the_table_is_named)
{
	expect_beyond("netd", (struct privilege){ .kind = PRIVILEGE_SYS, .name = "ptrace", .number = SCMP_SYS(ptrace) },
		      "ptrace");
	expect_beyond("netd", (struct privilege){ .kind = PRIVILEGE_SYS, .name = "read", .number = SCMP_SYS(read) },
		      ""); /* has it */
	expect_beyond(
		"netd",
		(struct privilege){ .kind = PRIVILEGE_SOCKET, .name = "AF_INET", .number = AF_INET, .protocol = PROTOCOL_ANY },
		"socket(family 2, protocol 0)");
	expect_beyond("netd", (struct privilege){ .kind = PRIVILEGE_SYS, .name = "mmap", .number = SCMP_SYS(mmap) }, "mmap");
	expect_beyond("fetchd",
		      (struct privilege){ .kind = PRIVILEGE_SYS, .name = "ioctl", .number = SCMP_SYS(ioctl) }, "ioctl");
}
END_TEST

START_TEST(the_strictest_of_several_decides)
{
	const struct sock_filter allow[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	const struct sock_filter refuse[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1) };
	const struct sock_filter kill[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS) };
	const struct filter_view stack[] = { { allow, 1 }, { refuse, 1 }, { kill, 1 } };
	const struct seccomp_data data = { .nr = 0 };

	ck_assert_uint_eq(filters_run(stack, 1, &data), SECCOMP_RET_ALLOW);
	ck_assert_uint_eq(filters_run(stack, 2, &data), SECCOMP_RET_ERRNO | 1);
	ck_assert_uint_eq(filters_run(stack, 3, &data), SECCOMP_RET_KILL_PROCESS);
}
END_TEST

/* Ours against the kernel's: in a child under the filter, each call that it forbids does what the program said it would. */
struct attempt {
	const struct sock_filter *code;
	size_t count;
	int call;
};

static int under_filter(void *arg)
{
	const struct attempt *attempt = arg;
	const struct sock_fprog program = { .len = (unsigned short)attempt->count,
					    .filter = (struct sock_filter *)(uintptr_t)attempt->code };

	EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
	(void)syscall(attempt->call, 0, 0, 0, 0, 0, 0);
	return 0;
}

START_TEST(the_kernel_agrees)
{
	static const int calls[] = { SCMP_SYS(getpid), SCMP_SYS(getcwd), SCMP_SYS(ptrace), SCMP_SYS(mount),
				     SCMP_SYS(umask),  SCMP_SYS(uname),	 SCMP_SYS(getuid), SCMP_SYS(bind),
				     SCMP_SYS(setns),  SCMP_SYS(brk),	 SCMP_SYS(unlink), SCMP_SYS(bpf) };

	for (const struct process *process = processes; process->name; process++) {
		struct filter filter = declared_of(process);

		if (process->becomes) {
			free(filter.code);
			continue; /* what is not in its table gets ENOSYS, which a status does not show */
		}
		for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
			struct attempt attempt = { filter.code, filter.count, calls[i] };
			int status = in_child(under_filter, &attempt);
			bool allowed = answer(&filter, calls[i], 0, 0) != SECCOMP_RET_KILL_PROCESS;

			ck_assert_msg(WIFSIGNALED(status) == !allowed, "%s, call %d: status %#x", process->name, calls[i],
				      (unsigned)status);
		}
		free(filter.code);
	}
}
END_TEST

UNIT_MAIN("loopback: audit of filters", a_filter_answers_as_its_table_says, the_same_table_makes_the_same_filter,
	  no_two_processes_have_one_filter, a_launcher_s_pointer_is_loose, what_gets_through_beyond_the_table_is_named,
	  the_strictest_of_several_decides, the_kernel_agrees)
