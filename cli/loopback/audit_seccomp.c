/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seccomp filters in force, read out of the kernel and held against the one that the table makes.
 *
 * PTRACE_SECCOMP_GET_FILTER (ptrace(2); Linux 4.4 with CONFIG_CHECKPOINT_RESTORE, which distributions set) gives each filter of a
 * thread that is stopped by its tracer. The tracer is a child of ours, so that nothing that happens to either can leave a daemon
 * stopped: when a tracer ends, in whatever way, the kernel lets its threads go on.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "cli/loopback/audit_bpf.h"

#define STACK_MAX 128        /* filters of a thread; systemd makes 34 of our units' lines on x86 */
#define STOPPED_MS_MAX 2000  /* what a thread in the middle of a system call may take to stop */

/* Shared with the child that traces. */
struct stack {
	int error; /* 0 or negative errno */
	size_t depth;
	size_t counts[STACK_MAX];
	struct sock_filter code[STACK_MAX][BPF_MAXINSNS]; /* the oldest filter first */
};

/* -- In the child ------------------------------------------------------------------------------------------------------------ */

static int stop(pid_t thread)
{
	int status;

	if (ptrace(PTRACE_SEIZE, thread, NULL, NULL) < 0 || ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) < 0)
		return -errno;
	if (waitpid(thread, &status, __WALL) != thread)
		return -errno;
	return WIFSTOPPED(status) ? 0 : -ESRCH;
}

static int read_filters(pid_t thread, struct stack *stack)
{
	for (size_t i = 0; i < STACK_MAX; i++) {
		long count = ptrace(PTRACE_SECCOMP_GET_FILTER, thread, (void *)i, stack->code[i]);

		if (count < 0 && errno == ENOENT)
			return 0;
		if (count < 0 && errno == EINVAL && i == 0)
			return 0; /* it has no filter at all */
		if (count < 0)
			return -errno;
		stack->counts[i] = (size_t)count;
		stack->depth = i + 1;
	}
	return -E2BIG;
}

static _noreturn_ void trace(pid_t thread, pid_t parent, struct stack *stack)
{
	int r;

	(void)signal(SIGTSTP, SIG_IGN); /* Ctrl-Z stops the audit, not the daemon */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent)
		_exit(1);
	r = stop(thread);
	if (r == 0)
		r = read_filters(thread, stack);
	(void)ptrace(PTRACE_DETACH, thread, NULL, NULL); /* fails if it has just ended; our own end detaches in any case */
	stack->error = r;
	_exit(0);
}

/* -- In the parent ----------------------------------------------------------------------------------------------------------- */

static int wait_for(pid_t child)
{
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };
	int r = pidfd < 0 ? -errno : 0, status;

	if (r == 0 && poll(&ended, 1, STOPPED_MS_MAX) == 0)
		r = -ETIMEDOUT;
	if (r < 0)
		(void)kill(child, SIGKILL); /* the kernel lets the thread go on */
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		continue;
	return r < 0 ? r : WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECHILD;
}

static int stack_read(pid_t thread, struct stack *stack)
{
	pid_t parent = getpid(), child;
	int r;

	stack->error = 0;
	stack->depth = 0;
	child = fork();
	if (child < 0)
		return -errno;
	if (child == 0)
		trace(thread, parent, stack);
	r = wait_for(child);
	return r < 0 ? r : stack->error;
}

static bool stacks_equal(const struct stack *one, const struct stack *other)
{
	if (one->depth != other->depth)
		return false;
	for (size_t i = 0; i < one->depth; i++)
		if (one->counts[i] != other->counts[i] ||
		    memcmp(one->code[i], other->code[i], one->counts[i] * sizeof(struct sock_filter)) != 0)
			return false;
	return true;
}

/* -- Telling ----------------------------------------------------------------------------------------------------------------- */

static void tell_reason(int error, struct phrase *out)
{
	struct utsname kernel;

	phrase_add(out, "not readable: ");
	if (error == -EIO && uname(&kernel) == 0)
		phrase_add(out, "this kernel (%s) hands no filters out; it is built without CONFIG_CHECKPOINT_RESTORE",
			   kernel.release);
	else if (error == -EACCES)
		phrase_add(
			out,
			"the kernel hands filters out only to root, with CAP_SYS_ADMIN, that is under no seccomp filter itself");
	else if (error == -EPERM)
		phrase_add(out, "this process may not be traced: another one traces it, or kernel.yama.ptrace_scope is 3, or a "
				"container is in the way");
	else if (error == -ETIMEDOUT)
		phrase_add(out, "a thread did not stop within %d ms; it runs on", STOPPED_MS_MAX);
	else if (error == -EMEDIUMTYPE)
		phrase_add(out, "a filter is not in the form in which the kernel keeps those of programs");
	else
		phrase_add(out, "%s", error == -ESRCH ? "the process ended while it was looked at" : strerror(-error));
}

/* What is in force, if it is not the table's. */
static void tell_other(const struct audited *audited, const struct filter *declared, const struct stack *stack,
		       struct phrase *out)
{
	_cleanup_phrase_ struct phrase names = { .text = NULL };
	struct filter_view views[STACK_MAX];
	char digest[FILTER_DIGEST_TEXT];
	size_t last = stack->depth - 1;

	for (size_t i = 0; i < stack->depth; i++)
		views[i] = (struct filter_view){ stack->code[i], stack->counts[i] };
	phrase_add(out, "filter %s", filter_digest(declared, stack->code[last], stack->counts[last], digest));
	if (stack->depth > 1)
		phrase_add(out, " over %zu others", last);
	if (filters_beyond(audited->process, declared, views, stack->depth, &names) > 0)
		phrase_add(out, "; lets through what the table does not: %s", phrase_text(&names));
	else
		phrase_add(out, "; none of the calls tried gets through that the table forbids: that of another version?");
	out->failed |= names.failed;
}

static enum audit_result tell_stack(const struct audited *audited, const struct filter *declared, const struct stack *stack,
				    struct phrase *out)
{
	char digest[FILTER_DIGEST_TEXT];

	if (stack->depth == 0) {
		phrase_add(out, "off");
		return AUDIT_DIFFERS;
	}
	for (size_t i = 0; i < stack->depth; i++) {
		if (!filter_same(declared, stack->code[i], stack->counts[i]))
			continue;
		phrase_add(out, "filter %s", filter_digest(declared, stack->code[i], stack->counts[i], digest));
		if (stack->depth > 1)
			phrase_add(out, ", and %zu more by the service manager, which can only take away", stack->depth - 1);
		return AUDIT_SAME;
	}
	tell_other(audited, declared, stack, out);
	return AUDIT_DIFFERS;
}

/* Every thread but the first: its filters are the first one's, or it is told. */
static int compare_threads(const struct audited *audited, const struct filter *declared, const pid_t *threads,
			   struct stack *stacks, enum audit_result *result, struct phrase *found)
{
	for (size_t i = 1; threads[i]; i++) {
		int r = stack_read(threads[i], &stacks[1]);

		if (r == -ESRCH)
			continue; /* threads come and go */
		if (r < 0)
			return r;
		if (stacks_equal(&stacks[0], &stacks[1]))
			continue;
		phrase_add(found, "; thread %d: ", (int)threads[i]);
		*result = AUDIT_DIFFERS;
		(void)tell_stack(audited, declared, &stacks[1], found);
	}
	return 0;
}

void audit_seccomp(struct audited *audited, const pid_t *threads)
{
	_cleanup_phrase_ struct phrase should = { .text = NULL }, found = { .text = NULL };
	enum audit_result result = AUDIT_UNKNOWN;
	struct filter declared = { .code = NULL };
	char digest[FILTER_DIGEST_TEXT];
	struct stack *stacks = mmap(NULL, 2 * sizeof(*stacks), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int r = stacks == MAP_FAILED ? -ENOMEM : filter_declared(audited->process, &declared);

	if (r == 0) {
		phrase_add(&should, "filter %s", filter_digest(&declared, declared.code, declared.count, digest));
		r = stack_read(threads[0], &stacks[0]);
	}
	if (r == 0)
		result = tell_stack(audited, &declared, &stacks[0], &found);
	if (r == 0)
		r = compare_threads(audited, &declared, threads, stacks, &result, &found);
	if (r < 0) {
		phrase_free(&found);
		tell_reason(r, &found);
		result = AUDIT_UNKNOWN;
	}
	audit_say_phrases(audited, AUDIT_seccomp, result, &should, &found);
	free(declared.code);
	if (stacks != MAP_FAILED)
		(void)munmap(stacks, 2 * sizeof(*stacks));
}

/*
 * A Landlock domain is shown nowhere by the kernel (as of 6.18: not in /proc, not by ptrace). What stands for it: the program
 * enters it before the filter and ends if that fails; the filter's table names no call that could have come before it.
 */
void audit_landlock(struct audited *audited)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1U);
	_cleanup_phrase_ struct phrase found = { .text = NULL };
	bool filtered = false;

	for (unsigned i = 0; i < audited->count; i++)
		if (audited->checks[i].aspect == AUDIT_seccomp)
			filtered = audited->checks[i].result == AUDIT_SAME;
	if (abi < 0)
		phrase_add(&found, "this kernel has none (%s): the unit's mount namespace limits paths alone", strerror(errno));
	else if (filtered)
		phrase_add(
			&found,
			"not shown by any kernel; this one has ABI %ld, and the filter that is in force is loaded only after it",
			abi);
	else
		phrase_add(&found,
			   "not shown by any kernel, and the filter that would speak for it was not read, or is not the table's");
	audit_say(audited, AUDIT_landlock, abi < 0 ? AUDIT_DIFFERS : AUDIT_NOT_SHOWN, "its paths and no others",
		  phrase_text(&found));
	audited->failed |= found.failed;
}
