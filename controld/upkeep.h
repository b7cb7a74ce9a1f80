/* SPDX-License-Identifier: Apache-2.0 */
/* What is done now and then: last polls are written down, replaced nodes and old answers are thrown away. */
#pragma once

#include "controld/controld.h"

_must_check_ int upkeep_start(struct controld *controld);
void upkeep_stop(struct controld *controld);
