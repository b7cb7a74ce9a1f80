/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli/loopback/host.h"

/** Is netd in this state, by its view? False as well if it cannot be asked. */
bool netd_state_is(struct cli *cli, const char *state);
