/* SPDX-License-Identifier: Apache-2.0 */
#include "libwg/netlink.h"

#include <errno.h>
#include <linux/netlink.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#define ANSWER_TIMEOUT_S 10 /* requests are carried out within sendmsg(); an answer that is missing then is lost */

int netlink_open(int protocol, struct netlink **netlink)
{
	const struct timeval timeout = { .tv_sec = ANSWER_TIMEOUT_S };
	_cleanup_(netlink_close) struct netlink *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->socket = mnl_socket_open2(protocol, SOCK_CLOEXEC);
	if (!n->socket || mnl_socket_bind(n->socket, 0, MNL_SOCKET_AUTOPID) < 0)
		return -errno;
	if (setsockopt(mnl_socket_get_fd(n->socket), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0)
		return -errno;
	n->port = mnl_socket_get_portid(n->socket);
	*netlink = TAKE_PTR(n);
	return 0;
}

void netlink_close(struct netlink *netlink)
{
	if (!netlink)
		return;
	if (netlink->socket)
		(void)mnl_socket_close(netlink->socket);
	free(netlink);
}

struct answer {
	netlink_fn *each;
	void *arg;
	int result; /* the first error */
	bool ended, interrupted;
};

/* NLMSG_DONE may be empty or carry a dump's error; NLMSG_ERROR always carries one, 0 for an acknowledgement. */
static int status_of(const struct nlmsghdr *message)
{
	if (mnl_nlmsg_get_payload_len(message) < sizeof(int))
		return message->nlmsg_type == NLMSG_DONE ? 0 : -EPROTO;
	return *(const int *)mnl_nlmsg_get_payload(message);
}

static void take(const struct nlmsghdr *message, struct answer *answer)
{
	int r;

	if (message->nlmsg_flags & NLM_F_DUMP_INTR)
		answer->interrupted = true;

	if (message->nlmsg_type == NLMSG_ERROR || message->nlmsg_type == NLMSG_DONE) {
		answer->ended = true;
		r = status_of(message);
	} else if (message->nlmsg_type < NLMSG_MIN_TYPE || !answer->each || answer->result) {
		return;
	} else {
		r = answer->each(message, answer->arg);
	}
	if (answer->result == 0)
		answer->result = r;
}

static int receive(struct netlink *netlink, struct answer *answer)
{
	const struct nlmsghdr *message = (const struct nlmsghdr *)(const void *)netlink->received;
	ssize_t n;
	int left;

	do {
		n = mnl_socket_recvfrom(netlink->socket, netlink->received, sizeof(netlink->received));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;

	/* An answer to an earlier request that timed out may still come: it is not ours any more. */
	for (left = (int)n; mnl_nlmsg_ok(message, left) && !answer->ended; message = mnl_nlmsg_next(message, &left))
		if (message->nlmsg_seq == netlink->seq && message->nlmsg_pid == netlink->port)
			take(message, answer);
	return 0;
}

int netlink_request(struct netlink *netlink, struct nlmsghdr *request, netlink_fn *each, void *arg)
{
	struct answer answer = { .each = each, .arg = arg };
	int r = 0;

	request->nlmsg_seq = ++netlink->seq;
	request->nlmsg_pid = netlink->port;
	if (mnl_socket_sendto(netlink->socket, request, request->nlmsg_len) < 0)
		return -errno;
	while (r == 0 && !answer.ended)
		r = receive(netlink, &answer);
	sodium_memzero(netlink->received, sizeof(netlink->received));
	if (r < 0)
		return r;
	if (answer.result)
		return answer.result;
	return answer.interrupted ? -EINTR : 0;
}

struct table {
	const struct nlattr **slots;
	size_t count;
};

static int tabulate(const struct nlattr *attr, void *arg)
{
	const struct table *table = arg;

	if (mnl_attr_get_type(attr) < table->count)
		table->slots[mnl_attr_get_type(attr)] = attr;
	return MNL_CB_OK;
}

void netlink_attributes(const struct nlmsghdr *message, size_t header_bytes, const struct nlattr **slots, size_t count)
{
	struct table table = { slots, count };

	memset(slots, 0, count * sizeof(slots[0]));
	(void)mnl_attr_parse(message, (unsigned)header_bytes, tabulate, &table);
}

void netlink_nested(const struct nlattr *nest, const struct nlattr **slots, size_t count)
{
	struct table table = { slots, count };

	memset(slots, 0, count * sizeof(slots[0]));
	if (nest)
		(void)mnl_attr_parse_nested(nest, tabulate, &table);
}

bool netlink_copy(const struct nlattr *attr, void *to, size_t bytes)
{
	if (!attr || mnl_attr_get_payload_len(attr) != bytes)
		return false;
	memcpy(to, mnl_attr_get_payload(attr), bytes);
	return true;
}
