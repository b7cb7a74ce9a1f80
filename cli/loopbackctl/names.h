/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people read instead of ids, and in which order. Programs (--json) get what the control plane said.
 */
#pragma once

#include "cli/loopbackctl/ctl.h"

/* Where the objects are listed whose ids stand under a key. A list of these ends with key NULL. */
struct naming {
	const char *key;  /* of an id, or of an array of ids */
	const char *path; /* "/v1/workspaces" */
};

/**
 * Replace ids by names in an object or an array of objects. An id whose name cannot be learnt, because this credential may not
 * read that list or because the object is gone, stays as it is: nothing is reported.
 */
void names_put(struct cli *cli, json_t *objects, const struct naming *namings);

/** Order an array of objects by name, h2 before h10. @return a new array, owned by the caller; NULL when memory is out */
json_t *sorted_by_name(const json_t *items);
