/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopback/support_run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#define READ_BYTES 65536
#define AFTER_KILL_MS 2000

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

_noreturn_ static void child(const char *const *argv, piece_fn *fill, int out)
{
	/* What programs may want to know, and nothing that came with us. */
	static const char *const environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TERM=dumb",
						   "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", "SYSTEMD_URLIFY=0", NULL };
	sigset_t none;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)setpgid(0, 0);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
		_exit(127);
	if (argv) {
		/* execve(2) changes neither; its prototype is older than const. */
		(void)execve(argv[0], (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)environment);
		(void)fprintf(stderr, "cannot start %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	{
		int status = fill();

		_exit(fflush(stdout) == EOF ? 1 : status);
	}
}

/* @return what read(2) does; output->cut when there is no room left */
static ssize_t take(int fd, struct piece_output *output)
{
	ssize_t n;

	if (output->n == PIECE_BYTES_MAX) {
		output->cut = true;
		return 0;
	}
	n = read(fd, output->bytes + output->n,
		 PIECE_BYTES_MAX - output->n < READ_BYTES ? PIECE_BYTES_MAX - output->n : READ_BYTES);
	if (n > 0)
		output->n += (size_t)n;
	return n;
}

/* Until its end, the end of its time, or a signal. @return 0; -EINTR; -errno */
static int gather(int fd, uint64_t until, int stop, struct piece_output *output)
{
	struct pollfd ready[] = { { .fd = fd, .events = POLLIN }, { .fd = stop, .events = POLLIN } };

	for (;;) {
		uint64_t now = now_ms();
		ssize_t n;

		if (now >= until) {
			output->timed_out = true;
			return 0;
		}
		if (poll(ready, ARRAY_SIZE(ready), (int)(until - now)) <= 0)
			continue;
		if (ready[1].revents)
			return -EINTR;
		n = take(fd, output);
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

/* One that hangs in the kernel cannot even be killed: it is left to itself. */
static void reap(pid_t pid, bool killed, struct piece_output *output)
{
	uint64_t until = now_ms() + AFTER_KILL_MS;

	output->status = -1;
	while (now_ms() < until) {
		int status;
		struct timespec pause = { .tv_nsec = 5000000 };

		if (waitpid(pid, &status, WNOHANG) == pid) {
			output->status = status;
			return;
		}
		/* Its output has ended, so it is about to. */
		if (!killed && now_ms() + AFTER_KILL_MS / 2 > until) {
			(void)kill(-pid, SIGKILL);
			killed = true;
		}
		(void)nanosleep(&pause, NULL);
	}
}

/* A line that was cut in two could hold half of a secret, which nobody would recognise. */
static void drop_half_line(struct piece_output *output)
{
	const char *end = output->n ? memrchr(output->bytes, '\n', output->n) : NULL;

	output->n = end ? (size_t)(end - output->bytes) + 1 : 0;
}

int piece_run(const char *const *argv, piece_fn *fill, unsigned seconds, int stop, struct piece_output *out)
{
	_cleanup_piece_ struct piece_output output = { .status = -1 };
	_cleanup_close_ int reading = -1, writing = -1;
	int pipe_fds[2], r;
	pid_t pid;

	if (argv && access(argv[0], X_OK) < 0)
		return -errno;
	output.bytes = malloc(PIECE_BYTES_MAX);
	if (!output.bytes)
		return -ENOMEM;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	reading = pipe_fds[0];
	writing = pipe_fds[1];
	(void)fflush(NULL);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		child(argv, fill, writing);
	(void)setpgid(pid, pid); /* whoever is first */
	writing = close_fd(writing);
	r = gather(reading, now_ms() + (uint64_t)seconds * 1000, stop, &output);
	if (r < 0 || output.timed_out || output.cut)
		(void)kill(-pid, SIGKILL);
	reap(pid, r < 0 || output.timed_out || output.cut, &output);
	if (r < 0)
		return r;
	if (output.cut || output.timed_out)
		drop_half_line(&output);
	*out = output;
	output.bytes = NULL;
	return 0;
}

void piece_output_free(struct piece_output *output)
{
	if (output->bytes)
		sodium_memzero(output->bytes, output->n);
	free(output->bytes);
	output->bytes = NULL;
}
