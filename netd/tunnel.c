/* SPDX-License-Identifier: Apache-2.0 */
/* The "tunnel" socket: on hosts without kernel WireGuard, wg-launch gets the TUN device and the UAPI socket here, and nothing else. */
#include <errno.h>
#include <string.h>

#include "libipc/log.h"
#include "netd/netd.h"
#include "libwg/tun.h"

int tunnel_grant(struct channel *channel, const char *name)
{
	struct msg_tunnel_grant message = { .interface = text_view(name) };
	_cleanup_close_ int tun = -1, uapi = -1;
	int fds[2];
	int r = tun_open(name, &tun);

	if (r == 0)
		r = uapi_listen(name, &uapi);
	if (r < 0)
		return log_errno(r, "cannot create %s (%s)", name, tun < 0 ? "the TUN device" : "its configuration socket");
	fds[0] = tun;
	fds[1] = uapi;
	return channel_send(channel, MSG_tunnel_grant, &message, fds);
}

static int on_message(struct channel *channel, struct message *message, void *arg)
{
	struct netd *netd = arg;
	int r;

	if (message->number != MSG_tunnel_request)
		return -EPROTO;
	if (netd->overlay.kind == WG_KERNEL)
		return channel_send(channel, MSG_tunnel_none, &(struct msg_tunnel_none){ .unused_ = { 0 } }, NULL);
	if (message->body.tunnel_request.next) {
		netd->rotation.spare = channel;
		rotation_follow(netd);
		return 0;
	}
	if (netd->overlay.wg)
		return log_errno(-EBUSY, "a tunnel is running already; wg-launch may not have another");
	r = tunnel_grant(channel, netd->overlay.name);
	if (r < 0)
		return r;
	/* Our copies are closed: the device lives as long as wireguard-go does. It answers once it has started, within wg_dump()'s time. */
	engine_attach(netd);
	documents_announce(netd);
	return 0;
}

static void on_closed(struct channel *channel, int error _unused_, void *arg)
{
	struct netd *netd = arg;

	if (netd->rotation.spare == channel)
		netd->rotation.spare = NULL;
}

int tunnel_listen(struct netd *netd, int fd, uid_t launch_uid)
{
	const struct listener_config config = {
		.self = PARTY_NETD,
		.peer = PARTY_LAUNCH,
		.phase = PHASE_READY,
		.uid = launch_uid,
		.channels_max = 2,
		.events = { on_message, on_closed },
		.arg = netd,
	};

	return listener_new(netd->loop, fd, &config, &netd->tunnel);
}
