/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libwg/rtnl.h"

#define GROUPS (RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE)

/* Where the fields stand in a notification: a struct nlmsghdr, then ifinfomsg or ifaddrmsg (both have the index at 4), or rtmsg. */
#define AT_TYPE 4
#define AT_INDEX (NLMSG_HDRLEN + 4)
#define AT_PROTOCOL (NLMSG_HDRLEN + 5)

/*
 * A host with containers makes and removes interfaces all the time, so the kernel is told which notifications to leave away (bpf(4), socket filters).
 * It loads in network byte order; the fields are in the host's.
 */
static int filter_set(int fd, int index)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, AT_TYPE),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWROUTE), 5, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELROUTE), 2, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, AT_INDEX),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl((uint32_t)index), 3, 2),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, AT_PROTOCOL),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ROUTE_PROTOCOL, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	const struct sock_fprog program = { .len = ARRAY_SIZE(code), .filter = code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? -errno : 0;
}

int rtnl_watch_open(int index)
{
	const struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = GROUPS };
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	int r;

	if (fd < 0)
		return -errno;
	r = filter_set(fd, index); /* before it can receive anything */
	if (r == 0 && bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		r = -errno;
	return r < 0 ? r : TAKE_FD(fd);
}

bool rtnl_watch_drain(int fd)
{
	uint8_t unread[64];
	bool any = false;

	/* What a notification says is not read: it may be old by now. ENOBUFS means that some were lost, which is news as well. */
	while (recv(fd, unread, sizeof(unread), MSG_DONTWAIT | MSG_TRUNC) >= 0 || errno == ENOBUFS)
		any = true;
	return any;
}
