/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopbackctl/names.h"

#include <stdlib.h>
#include <string.h>

#include "cli/loopbackctl/api.h"

/* {id: name} of everything in a list; NULL if it cannot be had. */
static json_t *names_of(struct cli *cli, const char *path)
{
	_cleanup_json_ json_t *items = NULL;
	_cleanup_json_ json_t *names = json_object();
	const json_t *item;
	size_t i;
	int r;

	cli->voice.mute = true;
	r = api_list(cli, path, &items);
	cli->voice.mute = false;
	if (r || !names)
		return NULL;
	json_array_foreach(items, i, item) {
		const char *id = json_string_value(json_object_get(item, "id"));

		if (id && json_object_set(names, id, json_object_get(item, "name")) < 0)
			return NULL;
	}
	return TAKE_PTR(names);
}

static json_t *name_of(const json_t *names, const json_t *id)
{
	const char *text = json_string_value(id);

	return text ? json_object_get(names, text) : NULL;
}

static void put_names(json_t *object, const char *key, const json_t *names)
{
	json_t *value = json_object_get(object, key);
	json_t *name = name_of(names, value);
	json_t *id;
	size_t i;

	/* on failure the id stays, which is the promise */
	if (name)
		(void)json_object_set(object, key, name);
	json_array_foreach(value, i, id) {
		name = name_of(names, id);
		if (name)
			(void)json_array_set(value, i, name);
	}
}

static bool has_key(json_t *objects, const char *key)
{
	json_t *object;
	size_t i;

	if (!json_is_array(objects))
		return json_is_string(json_object_get(objects, key)) || json_array_size(json_object_get(objects, key)) > 0;
	json_array_foreach(objects, i, object)
		if (has_key(object, key))
			return true;
	return false;
}

void names_put(struct cli *cli, json_t *objects, const struct naming *namings)
{
	for (; namings && namings->key; namings++) {
		_cleanup_json_ json_t *names = has_key(objects, namings->key) ? names_of(cli, namings->path) : NULL;
		json_t *object;
		size_t i;

		if (!names)
			continue;
		if (json_is_object(objects))
			put_names(objects, namings->key, names);
		json_array_foreach(objects, i, object)
			put_names(object, namings->key, names);
	}
}

static int compare(const void *a, const void *b)
{
	const char *x = json_string_value(json_object_get(*(json_t *const *)a, "name"));
	const char *y = json_string_value(json_object_get(*(json_t *const *)b, "name"));

	return strverscmp(x ? x : "", y ? y : "");
}

json_t *sorted_by_name(const json_t *items)
{
	size_t count = json_array_size(items);
	_cleanup_free_ json_t **order = calloc(count ? count : 1, sizeof(json_t *));
	_cleanup_json_ json_t *sorted = json_array();

	if (!order || !sorted)
		return NULL;
	for (size_t i = 0; i < count; i++)
		order[i] = json_array_get(items, i);
	qsort(order, count, sizeof(json_t *), compare);
	for (size_t i = 0; i < count; i++)
		if (json_array_append(sorted, order[i]) < 0)
			return NULL;
	return TAKE_PTR(sorted);
}
