/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The "documents" socket: fetchd brings, netd decides.
 *
 * hello -> identity, ask -> offer -> want, blobs ... -> result, ask ... fetchd is not believed anything: what it brings is named by hash or signed, and the head
 * answers a nonce that netd made. It can only delay, and that shows (stale).
 */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

#include "libipc/log.h"
#include "libipc/memfd.h"
#include "netd/lock.h"
#include "netd/netd.h"

#define PATIENCE 2 /* refusals in a row after which netd takes its time */
#define BLOBS_BYTES_MAX (8 * 1024 * 1024) /* of one message (libipc/messages.def) */

struct offer {
	uint64_t begun_us;
	unsigned count;
	struct head_entry entries[HEAD_ENTRIES_MAX]; /* all but the keyset */
	struct mesh *mesh; /* its documents, verified; NULL until they are here */
	unsigned want_count;
	struct hash wants[WANT_MAX]; /* asked for and not here yet */
};

static void send_or_hang_up(struct netd *netd, enum message_number number, const void *body)
{
	int r = netd->fetchd ? channel_send(netd->fetchd, number, body, NULL) : 0;

	if (r < 0)
		log_warning("cannot answer fetchd: %s", strerror(-r));
}

/* -- Who we are ------------------------------------------------------------------------------------------------------------------- */

static int registration_make(struct netd *netd, struct pack_writer *envelope)
{
	CLEANUP(pack_writer_free) struct pack_writer payload = { .bytes = NULL };
	struct registration registration = { .header = state_header(&netd->state), .listen_port = netd->overlay.listen_port };
	int r = state_statement(&netd->state, false, &registration.statement);

	if (r == 0 && netd->state.keys.next_counter)
		r = state_statement(&netd->state, true, &registration.next);

	if (r < 0)
		return r;
	memcpy(registration.transport_key, netd->transport_key, KEY_BYTES);
	(void)snprintf(registration.backend, sizeof(registration.backend), "%s",
		       netd->engine == ENGINE_WAITING ? "none" : netd->overlay.kind == WG_KERNEL ? "kernel" : "userspace");
	(void)snprintf(registration.version, sizeof(registration.version), "%s", LOOPBACK_VERSION);
	registration.address_count = overlay_underlay(&netd->overlay, registration.addresses, REGISTRATION_ADDRESSES_MAX);
	registration.flags = rotation_assignable(netd) ? REGISTRATION_ASSIGNABLE : 0;
	r = registration_encode(&registration, &payload);
	return r < 0 ? r : state_sign(&netd->state, DOC_registration, &payload, envelope);
}

static void send_identity(struct netd *netd)
{
	CLEANUP(pack_writer_free) struct pack_writer envelope = { .bytes = NULL };
	struct msg_identity identity = {
		.pinned = netd->state.pinned,
		.deployed = netd->state.deployed,
		.host_key = state_host_key(&netd->state),
		.root_key = netd->state.root,
	};

	if (netd->state.deployed) {
		int r = registration_make(netd, &envelope);

		if (r < 0)
			(void)log_errno(r, "cannot make this host's registration");
		identity.registration = (struct view){ envelope.bytes, envelope.n };
	}
	send_or_hang_up(netd, MSG_identity, &identity);
}

/* -- Asking ----------------------------------------------------------------------------------------------------------------------- */

static int have_write(const struct netd *netd, struct pack_writer *have)
{
	struct head_entry entries[HEAD_ENTRIES_MAX];
	unsigned count = 0;

	entries[count++] = (struct head_entry){
		.type = DOC_keyset,
		.id = netd->state.keyset.header.id,
		.epoch = netd->state.keyset.header.epoch,
		.generation = netd->state.keyset.header.generation,
		.hash = netd->state.keyset_name,
	};
	for (unsigned i = 0; netd->mesh && i < netd->mesh->count; i++) {
		entries[count] = netd->mesh->entries[i];
		entries[count].root = mesh_root(netd->mesh, &entries[count]);
		count++;
	}
	return have_encode(entries, count, have);
}

/* A new nonce each time: a head is good for one answer. Without a device nothing is asked for, since nothing could be applied. */
static void ask(struct netd *netd)
{
	CLEANUP(pack_writer_free) struct pack_writer have = { .bytes = NULL };
	struct msg_ask message = { .nonce = netd->nonce };

	netd->asked = false;
	if (!netd->state.deployed || !netd->greeted || netd->offer || netd->engine != ENGINE_RUNNING)
		return;
	if (have_write(netd, &have) < 0)
		return;
	randombytes_buf(netd->nonce, sizeof(netd->nonce));
	netd->asked = true;
	message.have = (struct view){ have.bytes, have.n };
	send_or_hang_up(netd, MSG_ask, &message);
}

void documents_announce(struct netd *netd)
{
	if (!netd->fetchd || !netd->greeted)
		return;
	send_identity(netd);
	if (!netd->asked) /* the nonce that is outstanding stays good: what was answered to it meanwhile is not thrown away */
		ask(netd);
}

static void ask_due(void *arg)
{
	ask(arg);
}

/* After a refusal the answer to the next question is likely to be the same: ask more and more slowly, up to every 32 s. */
static void ask_again(struct netd *netd)
{
	unsigned patience = netd->refusals > PATIENCE ? netd->refusals - PATIENCE : 0;

	if (patience == 0)
		ask(netd);
	else
		loop_timer_set(netd->ask_again, 1000U << (patience < 6 ? patience - 1 : 5));
}

/* -- The end of an offer ---------------------------------------------------------------------------------------------------------- */

void documents_forget(struct netd *netd)
{
	if (netd->offer)
		mesh_free(netd->offer->mesh);
	free(netd->offer);
	netd->offer = NULL;
	netd->asked = false;
	if (netd->offer_deadline)
		loop_timer_stop(netd->offer_deadline);
	if (netd->fetchd && channel_phase(netd->fetchd) == PHASE_WANTED)
		channel_phase_set(netd->fetchd, PHASE_READY);
}

static void receipt_make(struct netd *netd, enum outcome outcome, const struct refusal *refusal, struct pack_writer *envelope)
{
	CLEANUP(pack_writer_free) struct pack_writer payload = { .bytes = NULL };
	struct receipt receipt = { .header = state_header(&netd->state), .outcome = outcome };
	int r;

	if (netd->offer) {
		receipt.count = netd->offer->count;
		receipt.entries = netd->offer->entries;
		receipt.apply_us = loop_now_us() - netd->offer->begun_us;
	} else if (netd->mesh) {
		receipt.count = netd->mesh->count;
		receipt.entries = netd->mesh->entries;
	}
	receipt.peers = netd->mesh ? netd->mesh->peers : 0;
	/* A change whose time has not run out is not told of: the head that confirms it is on its way. */
	receipt.confirm = netd->gate.state == CONFIRM_unconfirmed && !netd->gate.why.code[0] ? CONFIRM_none : netd->gate.state;
	receipt.mended = netd->mended < UINT32_MAX ? netd->mended : UINT32_MAX;
	receipt.moving = netd->rotation.moving;
	memcpy(receipt.code, refusal->code, sizeof(receipt.code));
	memcpy(receipt.reason, refusal->reason, sizeof(receipt.reason));
	r = receipt_encode(&receipt, &payload);
	if (r == 0)
		r = state_sign(&netd->state, DOC_receipt, &payload, envelope);
	if (r < 0)
		(void)log_errno(r, "cannot sign a receipt");
}

static void finish(struct netd *netd, enum outcome outcome, const struct refusal *refusal)
{
	CLEANUP(pack_writer_free) struct pack_writer envelope = { .bytes = NULL };
	struct msg_result result = { .outcome = (uint64_t)outcome, .reason = text_view(refusal->reason) };

	netd->refusals = outcome == OUTCOME_applied || outcome == OUTCOME_unchanged ? 0 : netd->refusals + 1;
	netd->last = (struct last_result){ .outcome = outcome, .refusal = *refusal, .at_ms = loop_now_ms() };
	if (outcome == OUTCOME_applied)
		log_info("applied: %u networks, %" PRIu64 " peers, in %" PRIu64 " us", netd->mesh->network_count, netd->mesh->peers,
			 loop_now_us() - netd->offer->begun_us);
	else if (outcome != OUTCOME_unchanged)
		log_error("%s: %s (%s)", outcome_name(outcome), refusal->reason, refusal->code);
	if (netd->overlay.unsettled_count)
		loop_timer_set(netd->settle, SETTLE_KEEPALIVE_MS);
	if (outcome != OUTCOME_unchanged && netd->state.deployed)
		receipt_make(netd, outcome, refusal, &envelope);
	result.receipt = (struct view){ envelope.bytes, envelope.n };
	if (outcome != OUTCOME_applied && outcome != OUTCOME_unchanged)
		blobs_sweep(netd->blobs);
	documents_forget(netd);
	send_or_hang_up(netd, MSG_result, &result);
	if (netd->gate.untold)
		documents_tell(netd);
	ask_again(netd);
}

void documents_tell(struct netd *netd)
{
	CLEANUP(pack_writer_free) struct pack_writer envelope = { .bytes = NULL };

	if (!netd->mesh || !netd->greeted || !netd->state.deployed || netd->offer || netd->engine != ENGINE_RUNNING)
		return;
	netd->gate.untold = false;
	receipt_make(netd, OUTCOME_applied, &netd->gate.why, &envelope);
	send_or_hang_up(netd, MSG_in_force, &(struct msg_in_force){ .receipt = { envelope.bytes, envelope.n } });
}

static void settle_due(void *arg)
{
	struct netd *netd = arg;
	int r = overlay_settle(&netd->overlay, netd->mesh);

	if (r < 0)
		(void)log_errno(r, "cannot give new peers their keepalive; the next comparison with the device does");
}

static int finish_refused(struct netd *netd, const struct refusal *refusal)
{
	finish(netd, OUTCOME_refused, refusal);
	return 0;
}

static void offer_overdue(void *arg)
{
	struct netd *netd = arg;
	struct refusal refusal;

	(void)refuse(&refusal, "missing-node", "%u documents or nodes that the head needs did not come within %d s; the old configuration stays",
		     netd->offer->want_count, OFFER_MS / 1000);
	finish(netd, OUTCOME_refused, &refusal);
}

/* -- Getting what is missing ------------------------------------------------------------------------------------------------------ */

static int want(const struct hash *name, void *arg)
{
	struct offer *offer = arg;

	for (unsigned i = 0; i < offer->want_count; i++)
		if (hash_equal(&offer->wants[i], name))
			return 0;
	offer->wants[offer->want_count++] = *name;
	return offer->want_count == WANT_MAX ? -ENOBUFS : 0; /* enough for one message */
}

static int want_node(const struct hash *name, void *arg)
{
	return want(name, ((struct mesh_walk *)arg)->arg);
}

static int want_documents(struct netd *netd, struct offer *offer)
{
	struct view bytes;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < offer->count; i++)
		if (blobs_get(netd->blobs, &offer->entries[i].hash, &bytes) < 0)
			r = want(&offer->entries[i].hash, offer);
	return r;
}

/* The documents are here: verify them before a single node is asked for, then list what the tries lack. */
static int want_nodes(struct netd *netd, struct offer *offer, struct refusal *refusal)
{
	struct mesh_walk walk = { .blobs = netd->blobs, .events.missing = want_node, .old = netd->mesh, .arg = offer };
	int r = 0;

	if (!offer->mesh)
		r = mesh_open(&netd->state, netd->blobs, netd->mesh, offer->entries, offer->count, &offer->mesh, refusal);
	if (r == 0)
		r = lock_check_offer(&netd->state, offer->mesh, refusal);
	if (r < 0)
		return r;
	walk.new = offer->mesh;
	r = mesh_diff(&walk);
	if (r == -EXDEV)
		return refuse(refusal, "misplaced", "a peer stands in a trie where it does not belong");
	if (r < 0 && r != -ENOBUFS)
		return refuse(refusal, "malformed", "a node of a trie is malformed (%s)", strerror(-r));
	return 0;
}

static int go_on(struct netd *netd)
{
	struct offer *offer = netd->offer;
	struct refusal refusal = { .code = "" };
	int r = want_documents(netd, offer);

	if (offer->want_count == 0)
		r = want_nodes(netd, offer, &refusal);
	if (r < 0 && r != -ENOBUFS)
		return finish_refused(netd, &refusal);
	if (offer->want_count == 0) {
		enum outcome outcome = engine_apply(netd, TAKE_PTR(offer->mesh), &refusal);

		finish(netd, outcome, &refusal);
		return 0;
	}
	channel_phase_set(netd->fetchd, PHASE_WANTED);
	send_or_hang_up(netd, MSG_want, &(struct msg_want){ .hashes = { offer->wants[0].b, offer->want_count * HASH_BYTES } });
	return 0;
}

static bool wanted(struct offer *offer, const struct hash *name)
{
	for (unsigned i = 0; i < offer->want_count; i++) {
		if (!hash_equal(&offer->wants[i], name))
			continue;
		offer->wants[i] = offer->wants[--offer->want_count];
		return true;
	}
	return false;
}

static int take_blobs(struct netd *netd, const uint8_t *bytes, size_t n, struct refusal *refusal)
{
	struct view blob;
	size_t at = 0;
	int more;

	while ((more = blob_next(bytes, n, &at, &blob)) > 0) {
		char text[HASH_TEXT];
		struct hash name;

		hash_of(blob.p, blob.n, &name);
		if (!wanted(netd->offer, &name))
			return refuse(refusal, "blob-mismatch", "fetchd brought bytes with the hash %s, which nothing asked for names",
				      hex_format(name.b, HASH_BYTES, text));
		if (blobs_put(netd->blobs, &name, blob.p, blob.n) < 0)
			return refuse(refusal, "memory", "out of memory while taking documents");
	}
	return more < 0 ? refuse(refusal, "blob-malformed", "fetchd brought a list of blobs that is torn") : 0;
}

static int on_blobs(struct netd *netd, struct message *message)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	struct refusal refusal;
	size_t n;
	int r = memfd_read(message->fds[0], BLOBS_BYTES_MAX, &bytes, &n);

	if (r < 0)
		return r; /* not a sealed memfd: no peer of ours does that */
	if (take_blobs(netd, bytes, n, &refusal) < 0)
		return finish_refused(netd, &refusal);
	return netd->offer->want_count == 0 ? go_on(netd) : 0;
}

static int on_lack(struct netd *netd, const struct msg_lack *lack)
{
	struct refusal refusal;
	char why[128], name[HASH_TEXT] = "";

	if (lack->hashes.n >= HASH_BYTES)
		(void)hex_format(lack->hashes.p, HASH_BYTES, name);
	(void)refuse(&refusal, "missing-node", "%zu documents or nodes could not be had (the first: %s): %s", lack->hashes.n / HASH_BYTES, name,
		     log_clean(why, sizeof(why), lack->reason.p, lack->reason.n));
	return finish_refused(netd, &refusal);
}

/* -- Offers ----------------------------------------------------------------------------------------------------------------------- */

static int head_open(const struct netd *netd, struct view bytes, struct head *head, struct refusal *refusal)
{
	struct envelope envelope;

	if (envelope_open(bytes.p, bytes.n, &envelope) < 0 || envelope.type != DOC_head)
		return refuse(refusal, "malformed", "what was offered is not a head");
	if (keyset_verify(&netd->state.keyset, &envelope, KEY_ONLINE) < 0)
		return refuse(refusal, "forged", "the head is not signed by an online key of keyset generation %" PRIu64,
			      netd->state.keyset.header.generation);
	if (head_decode(envelope.payload, head) < 0)
		return refuse(refusal, "malformed", "the head is malformed");
	if (!id_equal(&head->header.deployment, &netd->state.keyset.header.deployment))
		return refuse(refusal, "deployment", "the head is of another deployment");
	if (!id_equal(&head->host, &netd->state.host))
		return refuse(refusal, "other-host", "the head is for another host");
	if (!netd->asked || sodium_memcmp(head->nonce, netd->nonce, sizeof(netd->nonce)) != 0)
		return refuse(refusal, "replayed", "the head answers a nonce that is not outstanding");
	return 0;
}

static int entry_check(const struct netd *netd, const struct head_entry *entry, struct refusal *refusal)
{
	const struct head_entry *now = netd->mesh ? mesh_entry(netd->mesh, entry->type, &entry->id) : NULL;

	if (!now || entry->type == DOC_admission) /* lock.h has a longer memory */
		return 0;
	if (entry->epoch < now->epoch || (entry->epoch == now->epoch && entry->generation < now->generation))
		return refuse(refusal, "downgraded", "the head names generation %" PRIu64 " of a %s; %" PRIu64 " is in force", entry->generation,
			      document_type_name(entry->type), now->generation);
	if (entry->epoch == now->epoch && entry->generation == now->generation && !hash_equal(&entry->hash, &now->hash))
		return refuse(refusal, "equivocated", "there are two different documents of generation %" PRIu64 " of a %s", entry->generation,
			      document_type_name(entry->type));
	return 0;
}

/* The keyset that the head names must be the one we have: fetchd hands a newer one over before the head. */
static int keyset_check(const struct netd *netd, const struct head_entry *entry, struct refusal *refusal)
{
	if (hash_equal(&entry->hash, &netd->state.keyset_name))
		return 0;
	return refuse(refusal, "keyset", "the head names keyset generation %" PRIu64 ", this host has %" PRIu64, entry->generation,
		      netd->state.keyset.header.generation);
}

static int offer_fill(const struct netd *netd, const struct head *head, struct offer *offer, struct refusal *refusal)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < head->count; i++) {
		const struct head_entry *entry = &head->entries[i];

		if (entry->type == DOC_keyset) {
			r = keyset_check(netd, entry, refusal);
			continue;
		}
		r = entry_check(netd, entry, refusal);
		offer->entries[offer->count++] = *entry;
	}
	return r;
}

static bool in_force(const struct netd *netd, const struct offer *offer)
{
	if (!netd->mesh || netd->mesh->count != offer->count)
		return false;
	for (unsigned i = 0; i < offer->count; i++) {
		bool found = false;

		for (unsigned j = 0; j < offer->count; j++)
			found = found || hash_equal(&netd->mesh->entries[j].hash, &offer->entries[i].hash);
		if (!found)
			return false;
	}
	return true;
}

static int on_offer(struct netd *netd, const struct msg_offer *message)
{
	_cleanup_free_ struct head *head = malloc(sizeof(*head));
	struct refusal refusal = { .code = "" };
	int r;

	netd->offer = calloc(1, sizeof(*netd->offer));
	if (!netd->offer || !head)
		return -ENOMEM;
	netd->offer->begun_us = loop_now_us();
	r = head_open(netd, message->head, head, &refusal);
	if (r == 0) {
		netd->asked = false; /* used up, whatever comes of it */
		r = offer_fill(netd, head, netd->offer, &refusal);
	}
	if (r < 0)
		return finish_refused(netd, &refusal);
	confirm_heard(netd);
	netd->fresh_ms = loop_now_ms();
	if (in_force(netd, netd->offer)) {
		finish(netd, OUTCOME_unchanged, &refusal);
		return 0;
	}
	loop_timer_set(netd->offer_deadline, OFFER_MS);
	return go_on(netd);
}

/* -- Keysets and the first word --------------------------------------------------------------------------------------------------- */

static int on_keyset(struct netd *netd, const struct msg_keyset *message)
{
	const char *why;
	int r = state_take_keyset(&netd->state, message->envelope.p, message->envelope.n, &why);

	if (r < 0) {
		struct refusal refusal;

		(void)refuse(&refusal, "keyset", "a keyset was refused: %s", why);
		return finish_refused(netd, &refusal);
	}
	if (r > 0)
		log_info("keyset generation %" PRIu64 ", epoch %u is in force", netd->state.keyset.header.generation,
			 netd->state.keyset.header.epoch);
	documents_announce(netd);
	return 0;
}

static int on_message(struct channel *channel, struct message *message, void *arg)
{
	struct netd *netd = arg;

	if (channel != netd->fetchd)
		return -EPIPE; /* replaced by a newer connection */
	view_renew(netd);
	switch (message->number) {
	case MSG_hello:
		memcpy(netd->transport_key, message->body.hello.transport_key, KEY_BYTES);
		netd->greeted = true;
		channel_phase_set(channel, PHASE_READY);
		documents_tell(netd);
		documents_announce(netd);
		return 0;
	case MSG_keyset:
		return netd->offer ? -EPROTO : on_keyset(netd, &message->body.keyset);
	case MSG_offer:
		return netd->offer || !netd->state.deployed ? -EPROTO : on_offer(netd, &message->body.offer);
	case MSG_blobs:
		return netd->offer ? on_blobs(netd, message) : -EPROTO;
	case MSG_lack:
		return netd->offer ? on_lack(netd, &message->body.lack) : -EPROTO;
	default:
		return -EPROTO;
	}
}

static void on_closed(struct channel *channel, int error, void *arg)
{
	struct netd *netd = arg;

	if (channel != netd->fetchd)
		return;
	log_info("fetchd is gone%s%s; the mesh runs on", error ? ": " : "", error ? strerror(-error) : "");
	documents_forget(netd);
	blobs_sweep(netd->blobs);
	netd->fetchd = NULL;
	netd->greeted = netd->asked = false;
	netd->refusals = 0;
	loop_timer_stop(netd->ask_again);
}

/* A new fetchd stands for the old one: after a restart the end of the old connection may be seen later. */
static int on_accepted(struct channel *channel, void *arg)
{
	struct netd *netd = arg;

	if (netd->fetchd) {
		struct channel *old = netd->fetchd;

		on_closed(old, 0, netd);
		channel_free(old);
	}
	netd->fetchd = channel;
	return 0;
}

int documents_listen(struct netd *netd, int fd, uid_t fetchd_uid)
{
	const struct listener_config config = {
		.self = PARTY_NETD,
		.peer = PARTY_FETCHD,
		.phase = PHASE_START,
		.uid = fetchd_uid,
		.channels_max = 2,
		.events = { on_message, on_closed },
		.accepted = on_accepted,
		.arg = netd,
	};
	int r = loop_timer_new(netd->loop, offer_overdue, netd, &netd->offer_deadline);

	if (r == 0)
		r = loop_timer_new(netd->loop, ask_due, netd, &netd->ask_again);
	if (r == 0)
		r = loop_timer_new(netd->loop, settle_due, netd, &netd->settle);
	return r < 0 ? r : listener_new(netd->loop, fd, &config, &netd->documents);
}
