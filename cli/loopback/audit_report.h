/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An audit, for people and for programs.
 */
#pragma once

#include "cli/loopback/audit.h"

struct audit {
	struct audited list[16];
	size_t count;
	bool systemd;
};

/** The worst there is of all processes. */
enum audit_result audit_worst(const struct audit *audit);

/** Print it on stdout: what is as declared in one line each, differences in full. */
void audit_report_text(const struct audit *audit);
/** The same as one object; its keys are promised by loopback(8). */
void audit_report_json(const struct audit *audit);
