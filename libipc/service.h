/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a daemon and its service manager say to each other: sd_notify(3) and sd_listen_fds(3), by hand.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "libipc/cleanup.h"

/**
 * Open the notification socket that NOTIFY_SOCKET names, so that it can still be used after the sandbox is on. Without one, notifying does
 * nothing. From here on a reader that went away, of stderr too, fails a write and does not end the process (SIGPIPE). @return 0; negative errno
 */
_must_check_ int service_open(void);
/** Send one datagram such as "READY=1" or "STATUS=...". Failure to tell is not an error of ours. */
void service_notify(const char *state);
/** The descriptor in use, -1 if none. */
int service_notify_fd(void);
/** Microseconds of WATCHDOG_USEC if it is meant for this process; 0 otherwise. */
uint64_t service_watchdog_usec(void);

/**
 * The descriptor that the service manager passed under a name (LISTEN_FDNAMES); made close-on-exec, checked to be a listening
 * SOCK_SEQPACKET. @return the descriptor, given out once; -ENOENT nothing was passed under this name; -EPROTOTYPE it is something else
 */
_must_check_ int service_socket(const char *name);
/** Close what was passed and nobody asked for. Call after the last service_socket(). @return how many there were */
unsigned service_sockets_close_rest(void);

/**
 * Listen on a path, for rigs without a service manager. An existing socket there is replaced.
 * @param uid owner, (uid_t)-1 to leave; @param mode permission bits
 */
_must_check_ int service_listen(const char *path, unsigned uid, unsigned mode);

/** Read a number that an option was given. @return 0; -EINVAL, which is said in the log */
_must_check_ int service_option_number(const char *option, const char *text, unsigned min, unsigned max, unsigned *number);
/** Look a user up by name. @return 0; -ENOENT, logged */
_must_check_ int service_user_id(const char *name, uid_t *uid);
