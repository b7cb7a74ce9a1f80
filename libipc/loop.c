/* SPDX-License-Identifier: Apache-2.0 */
#include "libipc/loop.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>

#include "libipc/service.h"

#define EVENTS_A_ROUND 32

struct loop_watch {
	struct loop *loop;
	int fd; /* -1: removed, freed at the end of the round */
	loop_fd_fn *call;
	void *arg;
	struct loop_watch *next_dead;
};

struct loop_timer {
	struct loop *loop;
	uint64_t due; /* loop_now_ms(); 0: not armed */
	bool dead;
	loop_timer_fn *call;
	void *arg;
	struct loop_timer *next;
};

struct loop {
	int epoll;
	bool stopped;
	int result;
	struct loop_watch *dead;
	struct loop_timer *timers; /* a process has a handful: a list is quicker than a heap */
	int signal_fd;
	struct loop_watch *signal_watch;
	loop_signal_fn *signal_call;
	void *signal_arg;
	struct loop_timer *watchdog;
	uint64_t watchdog_ms;
};

uint64_t loop_now_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t unix_now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t loop_now_ms(void)
{
	return loop_now_us() / 1000;
}

int loop_new(struct loop **out)
{
	_cleanup_(loop_free) struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return -ENOMEM;
	loop->signal_fd = -1;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll < 0)
		return -errno;
	*out = TAKE_PTR(loop);
	return 0;
}

static void bury(struct loop *loop)
{
	struct loop_timer **link = &loop->timers;

	while (loop->dead) {
		struct loop_watch *watch = loop->dead;

		loop->dead = watch->next_dead;
		free(watch);
	}
	while (*link) {
		struct loop_timer *timer = *link;

		if (timer->dead) {
			*link = timer->next;
			free(timer);
		} else {
			link = &timer->next;
		}
	}
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	loop_watch_remove(&loop->signal_watch);
	close_fd(loop->signal_fd);
	for (struct loop_timer *timer = loop->timers; timer; timer = timer->next)
		timer->dead = true;
	bury(loop);
	close_fd(loop->epoll);
	free(loop);
}

int loop_watch_add(struct loop *loop, int fd, uint32_t events, loop_fd_fn *call, void *arg, struct loop_watch **out)
{
	_cleanup_free_ struct loop_watch *watch = calloc(1, sizeof(*watch));
	struct epoll_event event = { .events = events, .data.ptr = watch };

	if (!watch)
		return -ENOMEM;
	*watch = (struct loop_watch){ .loop = loop, .fd = fd, .call = call, .arg = arg };
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	*out = TAKE_PTR(watch);
	return 0;
}

int loop_watch_change(struct loop_watch *watch, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };

	return epoll_ctl(watch->loop->epoll, EPOLL_CTL_MOD, watch->fd, &event) < 0 ? -errno : 0;
}

void loop_watch_remove(struct loop_watch **owned)
{
	struct loop_watch *watch = *owned;

	*owned = NULL;
	if (!watch)
		return;
	(void)epoll_ctl(watch->loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
	watch->fd = -1;
	watch->next_dead = watch->loop->dead;
	watch->loop->dead = watch;
}

int loop_timer_new(struct loop *loop, loop_timer_fn *call, void *arg, struct loop_timer **out)
{
	struct loop_timer *timer = calloc(1, sizeof(*timer));

	if (!timer)
		return -ENOMEM;
	*timer = (struct loop_timer){ .loop = loop, .call = call, .arg = arg, .next = loop->timers };
	loop->timers = timer;
	*out = timer;
	return 0;
}

void loop_timer_set(struct loop_timer *timer, uint64_t milliseconds)
{
	timer->due = loop_now_ms() + milliseconds;
}

void loop_timer_stop(struct loop_timer *timer)
{
	timer->due = 0;
}

void loop_timer_free(struct loop_timer **owned)
{
	struct loop_timer *timer = *owned;

	*owned = NULL;
	if (!timer)
		return;
	timer->due = 0;
	timer->dead = true;
}

static void signal_ready(int fd, uint32_t events _unused_, void *arg)
{
	struct loop *loop = arg;
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		loop->signal_call((int)info.ssi_signo, loop->signal_arg);
}

int loop_signals(struct loop *loop, const int *signals, loop_signal_fn *call, void *arg)
{
	sigset_t set;

	sigemptyset(&set);
	for (; *signals; signals++)
		sigaddset(&set, *signals);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	loop->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (loop->signal_fd < 0)
		return -errno;
	loop->signal_call = call;
	loop->signal_arg = arg;
	return loop_watch_add(loop, loop->signal_fd, EPOLLIN, signal_ready, loop, &loop->signal_watch);
}

static void watchdog_due(void *arg)
{
	struct loop *loop = arg;

	service_notify("WATCHDOG=1");
	loop_timer_set(loop->watchdog, loop->watchdog_ms);
}

int loop_watchdog(struct loop *loop)
{
	uint64_t interval = service_watchdog_usec();
	int r;

	if (interval == 0)
		return 0;
	loop->watchdog_ms = interval / 2000;
	r = loop_timer_new(loop, watchdog_due, loop, &loop->watchdog);
	if (r == 0)
		loop_timer_set(loop->watchdog, loop->watchdog_ms);
	return r;
}

/* When the next timer is due; UINT64_MAX if none is armed. */
static uint64_t soonest_due(const struct loop *loop)
{
	uint64_t soonest = UINT64_MAX;

	for (const struct loop_timer *timer = loop->timers; timer; timer = timer->next)
		if (timer->due && timer->due < soonest)
			soonest = timer->due;
	return soonest;
}

/* Milliseconds until the next timer, at most max; -1 if there is none and max is -1. */
static int next_due(const struct loop *loop, int max)
{
	uint64_t soonest = soonest_due(loop);
	uint64_t now;

	if (soonest == UINT64_MAX)
		return max;
	now = loop_now_ms();
	if (soonest <= now)
		return 0;
	soonest -= now;
	if (max >= 0 && soonest > (uint64_t)max)
		return max;
	return soonest > 86400000 ? 86400000 : (int)soonest;
}

static void fire_timers(struct loop *loop)
{
	uint64_t now;

	if (soonest_due(loop) == UINT64_MAX)
		return; /* most rounds: no clock is read */
	now = loop_now_ms();
	/* A callback may add a timer: it goes to the front of the list, where this walk has been already. */
	for (struct loop_timer *timer = loop->timers; timer; timer = timer->next) {
		if (!timer->due || timer->due > now)
			continue;
		timer->due = 0;
		timer->call(timer->arg);
	}
}

int loop_once(struct loop *loop, int milliseconds)
{
	struct epoll_event events[EVENTS_A_ROUND];
	int n = epoll_wait(loop->epoll, events, EVENTS_A_ROUND, next_due(loop, milliseconds));

	if (n < 0 && errno != EINTR)
		return -errno;
	for (int i = 0; i < n; i++) {
		struct loop_watch *watch = events[i].data.ptr;

		if (watch->fd >= 0)
			watch->call(watch->fd, events[i].events, watch->arg);
	}
	fire_timers(loop);
	bury(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	loop->stopped = false;
	while (!loop->stopped) {
		int r = loop_once(loop, -1);

		if (r < 0)
			return r;
	}
	return loop->result;
}

void loop_stop(struct loop *loop, int result)
{
	loop->stopped = true;
	loop->result = result;
}
