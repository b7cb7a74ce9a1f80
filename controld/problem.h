/* SPDX-License-Identifier: Apache-2.0 */
/* Why a request is not granted: a status of HTTP, a stable word for programs, a sentence for people. */
#pragma once

#include "libipc/cleanup.h"

#define PROBLEM_NONE 0

struct problem {
	unsigned status;
	char code[32];
	char detail[768];
};

/**
 * Fill in a problem. @return -EREMOTEIO, which stands for "the problem says why", so that code can write `return problem_set(...)`
 */
int problem_set(struct problem *problem, unsigned status, const char *code, const char *format, ...) _printf_(4, 5);
/** Make a problem of an errno, unless there is one already. */
void problem_of(struct problem *problem, int error);
