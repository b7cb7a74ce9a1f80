/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One epoll loop a process: descriptors, timers, signals, the service manager's watchdog. Single-threaded.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "libipc/cleanup.h"

struct loop;
struct loop_watch; /* a watched descriptor */
struct loop_timer;

typedef void loop_fd_fn(int fd, uint32_t events, void *arg);
typedef void loop_timer_fn(void *arg);
typedef void loop_signal_fn(int signal, void *arg);

_must_check_ int loop_new(struct loop **loop);
void loop_free(struct loop *loop);
DEFINE_CLEANUP(struct loop *, loop_free)

/**
 * Watch a descriptor, which stays the caller's. A callback may remove any watch or timer, its own included: memory is kept until
 * the current round is over.
 * @param events EPOLLIN, EPOLLOUT ...
 * @return 0; -ENOMEM; epoll_ctl(2)'s errors
 */
_must_check_ int loop_watch_add(struct loop *loop, int fd, uint32_t events, loop_fd_fn *call, void *arg, struct loop_watch **watch);
_must_check_ int loop_watch_change(struct loop_watch *watch, uint32_t events);
/** Stop watching; *watch becomes NULL. NULL is fine. Call it before closing the descriptor. */
void loop_watch_remove(struct loop_watch **watch);

/** A one-shot timer, not armed yet. */
_must_check_ int loop_timer_new(struct loop *loop, loop_timer_fn *call, void *arg, struct loop_timer **timer);
/** Arm (again) to fire once, so many milliseconds from now. */
void loop_timer_set(struct loop_timer *timer, uint64_t milliseconds);
void loop_timer_stop(struct loop_timer *timer);
void loop_timer_free(struct loop_timer **timer);

/** Route signals through the loop (signalfd); they are blocked. Call once. @param signals ends with 0 */
_must_check_ int loop_signals(struct loop *loop, const int *signals, loop_signal_fn *call, void *arg);

/** Feed the service manager's watchdog at half its interval, if WATCHDOG_USEC asks for it. Wakes nobody otherwise. */
_must_check_ int loop_watchdog(struct loop *loop);

/** Run until loop_stop(). @return what loop_stop() was given; negative errno of epoll_wait(2) */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop, int result);
/** Process what is due, waiting at most so many milliseconds (-1: as long as it takes). For clients. @return 0 or negative errno */
_must_check_ int loop_once(struct loop *loop, int milliseconds);

/** Milliseconds of CLOCK_BOOTTIME: goes on through suspend, never back. */
uint64_t loop_now_ms(void);
/** Unix milliseconds. */
uint64_t unix_now_ms(void);
/** The same clock in microseconds. */
uint64_t loop_now_us(void);
