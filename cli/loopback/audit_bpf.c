/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopback/audit_bpf.h"

#include <errno.h>
#include <seccomp.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>

#include "wg-launch/filter.h"

#define CALLS_MAX 1024   /* system calls of an architecture are numbered from 0; the kernel's last is below 500 today */
#define FAMILIES_MAX 64
#define NAMED_MAX 12

/* -- The table's program ----------------------------------------------------------------------------------------------------- */

/* Two pointers that differ in both halves: whatever instruction differs between their programs compares with the pointer. */
static int declared_loosely(const struct process *process, struct filter *filter)
{
	const char *one = (const char *)(uintptr_t)0x1111111122222222ULL, *two = (const char *)(uintptr_t)0x3333333344444444ULL;
	_cleanup_free_ struct sock_filter *other = NULL;
	struct sock_filter *code = NULL;
	size_t count = 0, other_count = 0;
	int r = filter_program(process->privileges, one, &code, &count);

	if (r == 0)
		r = filter_program(process->privileges, two, &other, &other_count);
	if (r == 0 && (count != other_count || count > BPF_MAXINSNS))
		r = -EPROTO;
	if (r < 0) {
		free(code);
		return r;
	}
	*filter = (struct filter){ .code = code, .count = count };
	for (size_t i = 0; i < count; i++)
		filter->loose[i] = code[i].k != other[i].k;
	return 0;
}

int filter_declared(const struct process *process, struct filter *filter)
{
	struct sock_filter *code = NULL;
	size_t count = 0;
	int r;

	if (process->becomes)
		return declared_loosely(process, filter);
	r = sandbox_program(process->privileges, &code, &count);
	if (r == 0 && count > BPF_MAXINSNS) {
		free(code);
		return -E2BIG;
	}
	if (r == 0)
		*filter = (struct filter){ .code = code, .count = count };
	return r;
}

bool filter_same(const struct filter *declared, const struct sock_filter *code, size_t count)
{
	if (declared->count != count)
		return false;
	for (size_t i = 0; i < count; i++) {
		const struct sock_filter *is = &code[i], *should = &declared->code[i];

		if (is->code != should->code || is->jt != should->jt || is->jf != should->jf)
			return false;
		if (is->k != should->k && !declared->loose[i])
			return false;
	}
	return true;
}

const char *filter_digest(const struct filter *declared, const struct sock_filter *code, size_t count,
			  char out[static FILTER_DIGEST_TEXT])
{
	uint8_t hash[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_state state;

	(void)crypto_hash_sha256_init(&state);
	for (size_t i = 0; i < count; i++) {
		struct sock_filter one = code[i];

		if (count == declared->count && declared->loose[i])
			one.k = 0;
		(void)crypto_hash_sha256_update(&state, (const uint8_t *)&one, sizeof(one));
	}
	(void)crypto_hash_sha256_final(&state, hash);
	memcpy(out, "sha256:", 7);
	(void)sodium_bin2hex(out + 7, FILTER_DIGEST_TEXT - 7, hash, sizeof(hash));
	return out;
}

/* -- Running it: the part of classic BPF that seccomp takes (kernel/seccomp.c, seccomp_check_filter()). ---------------------- */

struct machine {
	uint32_t a, x, memory[BPF_MEMWORDS];
};

static uint32_t compute(uint16_t op, uint32_t a, uint32_t b)
{
	switch (op) {
	case BPF_ADD: return a + b;
	case BPF_SUB: return a - b;
	case BPF_MUL: return a * b;
	case BPF_DIV: return b ? a / b : 0;
	case BPF_OR: return a | b;
	case BPF_AND: return a & b;
	case BPF_XOR: return a ^ b;
	case BPF_LSH: return b < 32 ? a << b : 0;
	case BPF_RSH: return b < 32 ? a >> b : 0;
	case BPF_NEG: return -a;
	default: return 0;
	}
}

static bool holds(uint16_t op, uint32_t a, uint32_t b)
{
	switch (op) {
	case BPF_JEQ: return a == b;
	case BPF_JGT: return a > b;
	case BPF_JGE: return a >= b;
	case BPF_JSET: return a & b;
	default: return false;
	}
}

static uint32_t word_at(const struct seccomp_data *data, uint32_t offset)
{
	uint32_t word = 0;

	if (offset <= sizeof(*data) - sizeof(word))
		memcpy(&word, (const uint8_t *)data + offset, sizeof(word));
	return word;
}

/* Instructions other than jumps and the end. */
static void step(struct machine *machine, const struct sock_filter *one, const struct seccomp_data *data)
{
	uint32_t *target = BPF_CLASS(one->code) == BPF_LDX || BPF_CLASS(one->code) == BPF_STX ? &machine->x : &machine->a;

	switch (BPF_CLASS(one->code)) {
	case BPF_LD:
	case BPF_LDX:
		if (BPF_MODE(one->code) == BPF_ABS)
			*target = word_at(data, one->k);
		else if (BPF_MODE(one->code) == BPF_MEM)
			*target = one->k < BPF_MEMWORDS ? machine->memory[one->k] : 0;
		else
			*target = BPF_MODE(one->code) == BPF_IMM ? one->k : (uint32_t)sizeof(*data);
		break;
	case BPF_ST:
	case BPF_STX:
		if (one->k < BPF_MEMWORDS)
			machine->memory[one->k] = *target;
		break;
	case BPF_ALU:
		machine->a = compute(BPF_OP(one->code), machine->a, BPF_SRC(one->code) == BPF_X ? machine->x : one->k);
		break;
	default:
		if (BPF_MISCOP(one->code) == BPF_TAX)
			machine->x = machine->a;
		else
			machine->a = machine->x;
		break;
	}
}

uint32_t filter_run(const struct sock_filter *code, size_t count, const struct seccomp_data *data)
{
	struct machine machine = { 0 };

	for (size_t at = 0; at < count; at++) {
		const struct sock_filter *one = &code[at];

		if (BPF_CLASS(one->code) == BPF_RET)
			return BPF_RVAL(one->code) == BPF_A ? machine.a : one->k;
		if (BPF_CLASS(one->code) != BPF_JMP)
			step(&machine, one, data);
		else if (BPF_OP(one->code) == BPF_JA)
			at += one->k;
		else
			at += holds(BPF_OP(one->code), machine.a, BPF_SRC(one->code) == BPF_X ? machine.x : one->k) ?
				      one->jt :
				      one->jf;
	}
	return SECCOMP_RET_KILL_PROCESS;
}

uint32_t filters_run(const struct filter_view *stack, size_t depth, const struct seccomp_data *data)
{
	uint32_t strictest = SECCOMP_RET_ALLOW;

	for (size_t i = 0; i < depth; i++) {
		uint32_t answer = filter_run(stack[i].code, stack[i].count, data);

		/* As the kernel compares them: KILL_PROCESS is the least as a signed number. */
		if ((int32_t)(answer & SECCOMP_RET_ACTION_FULL) < (int32_t)(strictest & SECCOMP_RET_ACTION_FULL))
			strictest = answer;
	}
	return strictest;
}

/* -- What one lets through and the other does not ---------------------------------------------------------------------------- */

struct trial {
	const struct filter *declared;
	const struct filter_view *stack;
	size_t depth;
};

static bool beyond(const struct trial *trial, const struct seccomp_data *data)
{
	uint32_t should = filter_run(trial->declared->code, trial->declared->count, data);

	return (should & SECCOMP_RET_ACTION_FULL) != SECCOMP_RET_ALLOW &&
	       (filters_run(trial->stack, trial->depth, data) & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ALLOW;
}

static bool beyond_with(const struct trial *trial, struct seccomp_data data, unsigned argument, uint64_t value)
{
	data.args[argument] = value;
	return beyond(trial, &data);
}

/* Around what a row compares: the value, beside it, each bit of the mask turned. */
static bool beyond_row(const struct trial *trial, const struct seccomp_data *data, const struct privilege *row)
{
	if (beyond_with(trial, *data, row->argument, row->value) || beyond_with(trial, *data, row->argument, row->value + 1))
		return true;
	for (unsigned bit = 0; row->compare == COMPARE_MASK && bit < 64; bit++)
		if ((row->mask >> bit & 1) && beyond_with(trial, *data, row->argument, row->value ^ 1ULL << bit))
			return true;
	return false;
}

static bool is_compared(const struct privilege *row, int number)
{
	return row->kind == PRIVILEGE_SYS && row->number == number &&
	       (row->compare == COMPARE_EQ || row->compare == COMPARE_MASK);
}

static bool call_beyond(const struct process *process, const struct trial *trial, int number)
{
	struct seccomp_data data = { .nr = number, .arch = seccomp_arch_native() };
	const struct privileges *privileges = process->privileges;

	if (beyond(trial, &data))
		return true;
	for (size_t i = 0; i < privileges->count; i++)
		if (is_compared(&privileges->rows[i], number) && beyond_row(trial, &data, &privileges->rows[i]))
			return true;
	memset(data.args, 0xff, sizeof(data.args));
	return beyond(trial, &data);
}

static unsigned families_beyond(const struct trial *trial, struct phrase *names)
{
	struct seccomp_data data = { .nr = SCMP_SYS(socket), .arch = seccomp_arch_native() };
	unsigned found = 0;

	for (unsigned family = 0; family < FAMILIES_MAX; family++)
		for (unsigned protocol = 0; protocol < FAMILIES_MAX; protocol++) {
			data.args[0] = family;
			data.args[2] = protocol;
			if (!beyond(trial, &data))
				continue;
			if (++found <= NAMED_MAX)
				phrase_item(names, "socket(family %u, protocol %u)", family, protocol);
			break;
		}
	return found;
}

unsigned filters_beyond(const struct process *process, const struct filter *declared, const struct filter_view *stack,
			size_t depth, struct phrase *names)
{
	const struct trial trial = { declared, stack, depth };
	unsigned found = families_beyond(&trial, names);

	for (int number = 0; number < CALLS_MAX; number++) {
		_cleanup_free_ char *name = NULL;

		if (number == SCMP_SYS(socket) || !call_beyond(process, &trial, number))
			continue;
		name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
		if (++found <= NAMED_MAX && name)
			phrase_item(names, "%s", name);
		else if (found <= NAMED_MAX)
			phrase_item(names, "call %d", number);
	}
	if (found > NAMED_MAX)
		phrase_add(names, " and %u more", found - NAMED_MAX);
	return found;
}
