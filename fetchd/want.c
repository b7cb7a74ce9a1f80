/* SPDX-License-Identifier: Apache-2.0 */
#include "fetchd/want.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fetchd/fetchd.h"
#include "libipc/log.h"
#include "libipc/memfd.h"
#include "libipc/pack.h"

#define PATIENCE_S 30
#define TRIES 4 /* 1 + 2 + 4 seconds between them: then netd gets on without */

/* -- Packing blobs into messages ------------------------------------------------------------------------------------------------------ */

struct parcel {
	int fd;
	uint64_t count, bytes;
};

static int parcel_send(struct fetchd *fetchd, struct parcel *parcel)
{
	_cleanup_close_ int fd = TAKE_FD(parcel->fd);
	struct msg_blobs blobs = { .count = parcel->count, .bytes = parcel->bytes };
	int r;

	parcel->count = parcel->bytes = 0;
	if (blobs.count == 0)
		return 0;
	r = memfd_seal(fd);
	return r < 0 ? r : channel_send(fetchd->netd.channel, MSG_blobs, &blobs, &fd);
}

static int parcel_add(struct fetchd *fetchd, struct parcel *parcel, struct view blob)
{
	int r = 0;

	if (parcel->count == WANT_MAX || parcel->bytes + 4 + blob.n > WANT_BYTES_MAX)
		r = parcel_send(fetchd, parcel);
	if (r == 0 && parcel->fd < 0) {
		parcel->fd = memfd_open("loopback-blobs");
		r = parcel->fd < 0 ? parcel->fd : 0;
	}
	if (r == 0)
		r = blob_append(parcel->fd, blob.p, blob.n);
	if (r < 0)
		return r;
	parcel->count++;
	parcel->bytes += 4 + blob.n;
	return 0;
}

/* Pack what is at hand; what is not stays in want->missing. */
static int serve(struct fetchd *fetchd, const struct stash *fetched)
{
	struct want *want = &fetchd->want;
	struct parcel parcel = { .fd = -1 };
	uint8_t buffer[BLOB_BYTES_MAX];
	uint32_t left = 0;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < want->count; i++) {
		const struct hash *name = &want->missing[i];
		const struct named_blob *blob = stash_find(fetched, name);
		ssize_t n = blob ? 0 : cache_get(&fetchd->cache, name, buffer);

		if (blob)
			r = parcel_add(fetchd, &parcel, blob->bytes);
		else if (n >= 0)
			r = parcel_add(fetchd, &parcel, (struct view){ buffer, (size_t)n });
		else
			want->missing[left++] = *name;
	}
	want->count = left;
	if (r == 0)
		r = parcel_send(fetchd, &parcel);
	close_fd(parcel.fd);
	return r;
}

/* -- The rest: from the control plane --------------------------------------------------------------------------------------------------- */

static void lack(struct fetchd *fetchd, const char *reason)
{
	struct want *want = &fetchd->want;
	struct msg_lack message = {
		.hashes = { (const uint8_t *)want->missing, (size_t)want->count * HASH_BYTES },
		.reason = text_view(reason),
	};
	int r;

	message.reason.n = message.reason.n > 256 ? 256 : message.reason.n;
	log_warning("%u of the blobs that netd wants cannot be had: %s", (unsigned)want->count, reason);
	r = channel_send(fetchd->netd.channel, MSG_lack, &message, NULL);
	if (r < 0)
		(void)log_errno(r, "cannot tell netd so");
	want_drop(fetchd);
}

static void fetch(void *arg);

static void try_later(struct fetchd *fetchd, const char *reason)
{
	struct want *want = &fetchd->want;

	if (++want->failures == TRIES) {
		lack(fetchd, reason);
		return;
	}
	log_notice("cannot fetch %u blobs: %s; trying again", (unsigned)want->count, reason);
	loop_timer_set(want->retry, backoff_ms(want->failures));
}

static void fetched(struct link_answer *answer, void *arg)
{
	CLEANUP(stash_free) struct stash stash = { 0 };
	struct fetchd *fetchd = arg;
	struct want *want = &fetchd->want;
	uint32_t before = want->count;
	int r;

	if (answer->error || answer->status != 200) {
		try_later(fetchd, answer->text);
		return;
	}
	r = blobs_answer_open(&answer->body, answer->n, &stash);
	if (r < 0) {
		try_later(fetchd, "the control plane's answer is not a list of blobs");
		return;
	}
	for (size_t i = 0; i < stash.count; i++)
		cache_put(&fetchd->cache, &stash.blobs[i].name, stash.blobs[i].bytes.p, stash.blobs[i].bytes.n);
	r = serve(fetchd, &stash);
	if (r < 0) {
		(void)log_errno(r, "cannot hand blobs to netd");
		lack(fetchd, "fetchd could not hand them over");
	} else if (want->count == before) {
		lack(fetchd, "the control plane does not have them");
	} else if (want->count > 0) {
		want->failures = 0;
		fetch(fetchd);
	}
}

static void fetch(void *arg)
{
	struct fetchd *fetchd = arg;
	struct want *want = &fetchd->want;
	struct pack_writer body = { 0 };
	struct link_request request = {
		.url = fetchd->state.url,
		.ca = fetchd->state.ca,
		.path = "/v1/agent/blobs",
		.proof = LINK_SIGNED,
		.host = fetchd->netd.host,
		.patience_s = PATIENCE_S,
		.answer_max = ANSWER_BYTES_MAX,
	};
	int r;

	pack_put_array(&body, 1);
	pack_put_array(&body, want->count);
	for (uint32_t i = 0; i < want->count; i++)
		pack_put_bytes(&body, want->missing[i].b, HASH_BYTES);
	request.body = (struct view){ body.bytes, body.n };
	r = body.error < 0 ? body.error : link_start(fetchd->link, &request, fetched, fetchd, &want->transfer);
	pack_writer_free(&body);
	if (r < 0)
		try_later(fetchd, strerror(-r));
}

/* -- What the others call ----------------------------------------------------------------------------------------------------------------- */

int want_init(struct fetchd *fetchd)
{
	return loop_timer_new(fetchd->loop, fetch, fetchd, &fetchd->want.retry);
}

void want_drop(struct fetchd *fetchd)
{
	link_cancel(&fetchd->want.transfer);
	loop_timer_stop(fetchd->want.retry);
	fetchd->want.count = 0;
	fetchd->want.failures = 0;
}

void want_stop(struct fetchd *fetchd)
{
	want_drop(fetchd);
	loop_timer_free(&fetchd->want.retry);
}

int want_begin(struct fetchd *fetchd, struct view hashes)
{
	struct want *want = &fetchd->want;
	int r;

	if (hashes.n == 0 || hashes.n % HASH_BYTES || hashes.n / HASH_BYTES > WANT_MAX)
		return -EPROTO;
	want_drop(fetchd);
	want->count = (uint32_t)(hashes.n / HASH_BYTES);
	memcpy(want->missing, hashes.p, hashes.n);
	r = serve(fetchd, &fetchd->stash);
	if (r < 0 || want->count == 0)
		return r;
	if (fetchd->state.url[0] == '\0')
		lack(fetchd, "this host has no control plane");
	else
		fetch(fetchd);
	return 0;
}
