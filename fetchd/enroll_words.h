/* SPDX-License-Identifier: Apache-2.0 */
/* What an enrolment is asked with, checked; and what a refused one is told. Pure. */
#pragma once

#include "fetchd/link.h"
#include "fetchd/state.h"
#include "libipc/messages.h"

/**
 * Check the words of an enrolment and copy them.
 * @param wanted url, ca, token and host name are set on success
 * @param why receives the reason for a person, which never quotes the token
 * @return 0; -EINVAL; -ENOMEM
 */
_must_check_ int enroll_words_check(const struct msg_enroll *message, struct state *wanted, const char **why);

/** What a refusal of the control plane means and what to do, for each code of agent-api.md. */
void enroll_refusal_text(const struct link_answer *answer, char *out, size_t room);
