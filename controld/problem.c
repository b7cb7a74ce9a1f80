/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/problem.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

int problem_set(struct problem *problem, unsigned status, const char *code, const char *format, ...)
{
	va_list args;

	problem->status = status;
	(void)snprintf(problem->code, sizeof(problem->code), "%s", code);
	va_start(args, format);
	(void)vsnprintf(problem->detail, sizeof(problem->detail), format, args);
	va_end(args);
	return -EREMOTEIO;
}

void problem_of(struct problem *problem, int error)
{
	if (problem->status)
		return;
	switch (error) {
	case -ENOMEM:
		(void)problem_set(problem, 503, "busy", "The control plane is out of memory; try again.");
		break;
	case -ENOSPC:
		(void)problem_set(problem, 503, "storage-full", "The control plane's disk is full; nothing was changed.");
		break;
	case -ECOMM:
		(void)problem_set(problem, 503, "signer-unavailable", "The signer does not answer; nothing was changed. Try again.");
		break;
	default:
		(void)problem_set(problem, 500, "internal", "The control plane failed (%s); nothing was changed. Its log says more.",
				  strerror(error < 0 ? -error : error));
	}
}
