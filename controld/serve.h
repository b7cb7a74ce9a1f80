/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "controld/http.h"

/* All borrowed. */
struct serve_options {
	const char *state, *signd, *user, *url; /* user, url: may be NULL */
	unsigned offline_after, degraded_after; /* seconds; 0: as by default (health.h) */
	struct http_options http;
};

/** Be the daemon until a signal ends it. @return 0; negative errno, logged */
_must_check_ int controld_serve(const struct serve_options *options);
