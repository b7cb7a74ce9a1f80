/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What netd makes for a userspace WireGuard and hands over: the TUN device and the socket on which it will be configured.
 */
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include "libipc/cleanup.h"

#define UAPI_DIRECTORY "/run/wireguard" /* where wireguard-go and wg(8) look, by way of /var/run */

/**
 * Create a TUN interface (tun.rst of the kernel's documentation) that exists as long as its descriptor is open somewhere.
 *
 * Packets carry the 4-byte protocol header (no IFF_NO_PI): wireguard-go 0.0.20220316 expects it of the descriptor that WG_TUN_FD
 * names.
 *
 * @param tun_fd receives the descriptor: non-blocking, close-on-exec, the caller's
 * @return 0; -EINVAL not a name; -EBUSY the name is taken; -EPERM without CAP_NET_ADMIN
 */
_must_check_ int tun_open(const char *name, int *tun_fd);

/**
 * Listen for configuration at /run/wireguard/NAME.sock. A socket that nobody answers is replaced.
 *
 * The socket's mode is 0755: to connect takes the right to write, which is the owner's (this process' uid) and root's alone.
 * wireguard-go, as another uid, must be able to read it, for it watches it with inotify(7) and ends when it is removed or its
 * mode changes; and to search /run/wireguard, which is made with mode 0711 if it is missing.
 *
 * @param fd receives the descriptor: close-on-exec, the caller's. Close it once it is handed over: as long as it is open
 *        somewhere connections are taken, though nobody serves them
 * @return 0; -EINVAL not a name; -EADDRINUSE somebody answers there; -EEXIST something else than a socket is there; negative errno
 */
_must_check_ int uapi_listen(const char *name, int *fd);

/** Where uapi_listen() listens. name: as an interface's, at most IFNAMSIZ - 1 bytes. */
void uapi_address(const char *name, struct sockaddr_un *address);
