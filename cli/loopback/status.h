/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli/loopback/host.h"
#include "cli/loopback/report.h"

/**
 * netd's view, without complaint.
 * @param view zeroed; mesh_view_free() it
 * @return 0; -ENOENT, -ECONNREFUSED netd does not run; -EACCES; -ETIMEDOUT; -EPROTO, -EBADMSG, -ENOTSUP it is of another version
 */
_must_check_ int netd_view_ask(struct cli *cli, bool peers, int timeout_ms, struct mesh_view *view);

/** Is netd in this state, by its view? False as well if it cannot be asked. */
bool netd_state_is(struct cli *cli, const char *state);

/** How fetchd stands with the control plane, without complaint: only root may ask, and then link->asked says so. @param link
 * zeroed */
void fetchd_link(struct cli *cli, int timeout_ms, struct link_report *link);
#define LINK_TIMEOUT_MS 5000
