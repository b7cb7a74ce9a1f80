/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli/loopback/host.h"
#include "cli/loopback/report.h"

/** Is netd in this state, by its view? False as well if it cannot be asked. */
bool netd_state_is(struct cli *cli, const char *state);

/** How fetchd stands with the control plane, without complaint: only root may ask, and then link->asked says so. @param link
 * zeroed */
void fetchd_link(struct cli *cli, struct link_report *link);
