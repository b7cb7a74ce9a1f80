/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netd: holds CAP_NET_ADMIN, believes nobody, makes the mesh real.
 *
 * One context, one file per socket: documents.c (fetchd), admin.c (root), view.c (anybody), tunnel.c (wg-launch); what they share is engine.c: the mesh in force
 * and how it changes.
 */
#pragma once

#include "libipc/channel.h"
#include "libipc/loop.h"
#include "libjournal/journal.h"
#include "libwg/beside.h"
#include "netd/overlay.h"

#define STALE_MS (15 * 60 * 1000)    /* no fresh head for so long: shown as stale, nothing is torn down */
#define OFFER_MS (60 * 1000)         /* fetchd has so long to bring what an offer needs */
#define DRIFT_MS (5 * 60 * 1000)     /* between comparisons with the device that nothing else asked for (M12) */
#define SETTLE_MS 5000               /* to the first of them after a device was taken over */
#define LOOK_MS 100                  /* from news of the interface to a look at it: changes come in groups */
#define LOOK_APART_MS 2000           /* between two such looks, whoever makes the news */
#define RETRY_MS 5000                /* after a device that could not be brought to either state */
#define WANT_MAX 1000                /* blobs asked for at once (libipc/messages.def) */

enum engine_state {
	ENGINE_WAITING, /* for a tunnel: there is no device */
	ENGINE_RUNNING,
	ENGINE_BROKEN, /* the device is in neither state; netd tries again */
};

struct last_result {
	enum outcome outcome; /* 0: none yet */
	struct refusal refusal;
	uint64_t at_ms; /* loop_now_ms() */
};

/* What is in force and not confirmed, and what reachability was like before it: confirm.c. */
struct gate {
	enum confirm state;
	struct refusal why;      /* unconfirmed in time, or restored; an empty code: nothing to tell */
	bool untold;             /* the control plane has been told something worse */
	struct mesh *before;     /* unconfirmed, restored: what was in force when the control plane was last heard; NULL: nothing was */
	unsigned patience_ms;    /* 0: changes need not be confirmed */
	uint64_t since_ms;       /* loop_now_ms() when the state was entered */
	struct loop_timer *deadline;
};

/* Keys that are being replaced, this host's or peers': rotation.c. */
struct rotation {
	struct beside second;
	struct channel *spare; /* a wg-launch that waits until a second tunnel is needed; NULL */
	struct loop_timer *look;
	int64_t nexts;         /* entries in force that name a next key */
	unsigned moving;       /* peers that are still to be moved to; without next keys, to be moved back from or still heard, and one more until the second interface is closed */
	uint64_t used_ms;
};

/* The last answer to viewers, a sealed memfd, and how long it serves. */
struct seen {
	int fd;
	size_t bytes;
	uint64_t until_ms;
};

struct netd {
	struct loop *loop;
	struct state state;
	struct blobs *blobs;
	struct owners *owners;
	struct journal *journal;
	struct overlay overlay;
	struct mesh *mesh; /* in force; NULL: none */
	enum engine_state engine;
	struct loop_watch *lifeline; /* of a userspace tunnel */
	struct loop_watch *link;     /* news of the interface */
	struct loop_timer *drift, *look, *retry;
	bool look_set;
	uint64_t looked_ms;
	uint64_t mended;   /* peers that were found to differ, since start */
	uint64_t fresh_ms; /* when the last head with our nonce came; 0 never */
	struct gate gate;
	struct rotation rotation;
	bool assignable; /* this host's owner lets the control plane make WireGuard keys for it (--assigned-keys) */
	uint64_t told_ms; /* when drift was last told of; 0 never */
	struct last_result last;

	struct listener *documents, *view, *admin, *tunnel;
	struct seen seen[2]; /* without peers, with them */
	struct channel *fetchd; /* the one that counts; NULL */
	bool greeted;           /* transport_key is known */
	uint8_t transport_key[KEY_BYTES];
	bool asked;
	uint8_t nonce[32]; /* the outstanding one */
	struct offer *offer; /* under way; NULL */
	struct loop_timer *offer_deadline, *ask_again, *settle;
	unsigned refusals; /* in a row */
};

/* -- engine.c ---------------------------------------------------------------------------------------------------------------------- */

/** Replay the journal and verify the last known good: what will be in force as soon as there is a device. @return 0; negative errno */
_must_check_ int engine_load(struct netd *netd);
/** There is a device: bring it to what is in force. Called at start, and when a tunnel came. */
void engine_attach(struct netd *netd);
/** The tunnel is gone. */
void engine_detach(struct netd *netd);

/**
 * Check a mesh whose nodes are all here, and put it in force: journal, apply, commit, or back to what was.
 * @param offered consumed
 * @return what became of it; refusal says why if it is neither applied nor unchanged
 */
enum outcome engine_apply(struct netd *netd, struct mesh *offered, struct refusal *refusal);
/** Nothing in force any more, device emptied (leaving). @return 0; negative errno */
_must_check_ int engine_clear(struct netd *netd);

/** The device cannot be compared with what is in force (r says why): take it anew. */
void engine_anew(struct netd *netd, int r);

const char *engine_state_name(const struct netd *netd);

/* -- confirm.c -------------------------------------------------------------------------------------------------------------------- */

_must_check_ int confirm_open(struct netd *netd);
/** Is the next change to be confirmed? Only if the control plane was heard lately, so that an outage is not blamed on a change. */
bool confirm_armed(const struct netd *netd);
/** A mesh was put in force: it becomes netd->mesh. Consumed. @param armed confirm_armed() from before */
void confirm_replaced(struct netd *netd, struct mesh *new, bool armed);
/** A fresh head came: what is in force did not cut this host off. */
void confirm_heard(struct netd *netd);
/** Nothing is in force any more. */
void confirm_forget(struct netd *netd);
/** After a start, with netd->mesh loaded: go on where the journal says. @param before consumed; NULL: there was nothing before */
void confirm_resume(struct netd *netd, enum confirm state, struct mesh *before);

/* -- rotation.c ------------------------------------------------------------------------------------------------------------------- */

_must_check_ int rotation_open(struct netd *netd);
/** What is in force goes from one mesh to another (NULL: none); call while both are there. */
void rotation_count(struct netd *netd, const struct mesh *from, const struct mesh *to);
/** Does this host take a WireGuard key from the control plane? Only if its owner said so, and never once operators locked a network of it. */
bool rotation_assignable(const struct netd *netd);
/** Bring keys and second interface to what is in force. */
void rotation_follow(struct netd *netd);
/** Nothing is in force any more. */
void rotation_clear(struct netd *netd);

/* -- the sockets: each takes a listening descriptor ------------------------------------------------------------------------------- */

_must_check_ int documents_listen(struct netd *netd, int fd, uid_t fetchd_uid);
_must_check_ int view_listen(struct netd *netd, int fd);
/** Something happened: the last view is no longer as good as a new one. */
void view_renew(struct netd *netd);
_must_check_ int admin_listen(struct netd *netd, int fd);
/** Hand a tunnel to wg-launch: a new TUN device of this name and its UAPI listener. @return 0; negative errno, logged */
_must_check_ int tunnel_grant(struct channel *channel, const char *name);
_must_check_ int tunnel_listen(struct netd *netd, int fd, uid_t launch_uid);

/** Tell fetchd who this host is now, after something of it changed, and ask for a head. */
void documents_announce(struct netd *netd);
/** Tell the control plane how what is in force is doing, by a receipt of its own. */
void documents_tell(struct netd *netd);
/** End an offer that is under way without a result. */
void documents_forget(struct netd *netd);
