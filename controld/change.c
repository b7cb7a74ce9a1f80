/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/change.h"

#include <errno.h>
#include <string.h>

#include "controld/documents.h"
#include "controld/mesh.h"
#include "controld/polls.h"
#include "libipc/log.h"

static bool list_has(const struct id_list *list, const struct id *id)
{
	for (size_t i = 0; i < list->count; i++)
		if (id_equal(&list->ids[i], id))
			return true;
	return false;
}

static int list_add(struct id_list *list, const struct id *id)
{
	struct id *grown;

	if (list_has(list, id))
		return 0;
	if (list->count == list->room) {
		grown = realloc(list->ids, (list->room ? list->room * 2 : 8) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		list->ids = grown;
		list->room = list->room ? list->room * 2 : 8;
	}
	list->ids[list->count++] = *id;
	return 0;
}

int change_begin(struct controld *controld, struct change *change)
{
	int r;

	*change = (struct change){ .controld = controld };
	r = store_begin(controld->store, true);
	change->open = r == 0;
	return r;
}

int change_network(struct change *change, const struct id *network, bool renew)
{
	struct mesh *mesh;
	int r = mesh_get(change->controld, network, &mesh);

	if (r == 0)
		r = list_add(&change->networks, network);
	if (r == 0 && renew)
		r = list_add(&change->renewed, network);
	return r;
}

int change_host_leaves(struct change *change, const struct id *host)
{
	return list_add(&change->leaving, host);
}

int change_host_joins(struct change *change, const struct id *host)
{
	return list_add(&change->joining, host);
}

static int publish_hosts(struct change *change, const struct id_list *hosts)
{
	int r = 0;

	for (size_t i = 0; i < hosts->count && r == 0; i++)
		r = host_publish(change->controld, &hosts->ids[i], &change->problem);
	return r;
}

static int publish_all(struct change *change)
{
	int r = publish_hosts(change, &change->leaving);

	for (size_t i = 0; i < change->networks.count && r >= 0; i++) {
		const struct id *network = &change->networks.ids[i];

		r = mesh_publish(change->controld, network, list_has(&change->renewed, network), &change->problem);
	}
	return r < 0 ? r : publish_hosts(change, &change->joining);
}

int change_commit(struct change *change)
{
	struct controld *controld = change->controld;
	int r = publish_all(change);

	if (r == 0 && change->published)
		r = change->published(change);
	if (r == 0) {
		r = store_commit(controld->store);
		change->open = r < 0;
	}
	if (r < 0) {
		problem_of(&change->problem, r);
		return r;
	}
	for (size_t i = 0; i < change->networks.count; i++)
		polls_wake_network(controld, &change->networks.ids[i]);
	for (size_t i = 0; i < change->leaving.count; i++)
		polls_wake_host(controld, &change->leaving.ids[i]);
	for (size_t i = 0; i < change->joining.count; i++)
		polls_wake_host(controld, &change->joining.ids[i]);
	if (change->committed)
		change->committed(controld);
	return 0;
}

void change_end(struct change *change)
{
	if (change->open) {
		store_rollback(change->controld->store);
		/* The tries have followed rows that are gone. */
		for (size_t i = 0; i < change->networks.count; i++)
			mesh_forget(change->controld, &change->networks.ids[i]);
		change->open = false;
	}
	free(TAKE_PTR(change->networks.ids));
	free(TAKE_PTR(change->renewed.ids));
	free(TAKE_PTR(change->leaving.ids));
	free(TAKE_PTR(change->joining.ids));
}

int audit_note(struct controld *controld, const char *who, const char *what, const char *object, const char *detail)
{
	int r = store_exec(controld->store,
			   "INSERT INTO audit (number, at, who, what, object, detail)"
			   " SELECT COALESCE(MAX(number), 0) + 1, $1, $2, $3, $4, $5 FROM audit",
			   "itttt", now_ms(), who, what, object, detail);

	return r < 0 ? r : 0;
}
