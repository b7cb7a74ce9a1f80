/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "controld/call.h"
#include "libipc/log.h"

bool name_valid(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n > NAME_BYTES_MAX || name[0] == '-' || name[n - 1] == '-')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static const struct json_field *field_find(const struct json_field *fields, size_t count, const char *key)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(fields[i].key, key) == 0)
			return &fields[i];
	return NULL;
}

static int wrong(struct call *call, const char *key, const char *expected)
{
	return call_problem(call, 400, "malformed", "\"%s\": expected %s.", key, expected);
}

static int read_texts(struct call *call, const struct json_field *field, json_t *value)
{
	json_t *element;
	size_t i;

	char expected[80];

	if (!json_is_array(value) || (int64_t)json_array_size(value) < field->min || (int64_t)json_array_size(value) > field->max) {
		(void)snprintf(expected, sizeof(expected), "an array of %d to %d strings", (int)field->min, (int)field->max);
		return wrong(call, field->key, expected);
	}
	json_array_foreach(value, i, element)
		if (!json_is_string(element) || strlen(json_string_value(element)) != json_string_length(element))
			return wrong(call, field->key, "an array of strings");
	*(json_t **)field->out = value;
	return 0;
}

static int read_text(struct call *call, const struct json_field *field, json_t *value)
{
	char expected[80];
	const char *text = json_string_value(value);

	/* A NUL within would end the text early for everybody who reads it after us. */
	if (!text || strlen(text) != json_string_length(value) || (int64_t)strlen(text) < field->min || (int64_t)strlen(text) > field->max) {
		(void)snprintf(expected, sizeof(expected), "a string of %d to %d bytes", (int)field->min, (int)field->max);
		return wrong(call, field->key, expected);
	}
	*(const char **)field->out = text;
	return 0;
}

static int field_read(struct call *call, const struct json_field *field, json_t *value)
{
	char expected[80];

	switch (field->kind) {
	case JSON_TEXT_OR_NULL:
		if (json_is_null(value)) {
			*(const char **)field->out = NULL;
			return 0;
		}
		return read_text(call, field, value);
	case JSON_TEXT:
		return read_text(call, field, value);
	case JSON_NAME:
		if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value) ||
		    !name_valid(json_string_value(value)))
			return wrong(call, field->key, "a name of 1 to 63 of a-z, 0-9 and hyphen, with no hyphen at either end");
		*(const char **)field->out = json_string_value(value);
		return 0;
	case JSON_NUMBER:
		if (!json_is_integer(value) || json_integer_value(value) < field->min || json_integer_value(value) > field->max) {
			(void)snprintf(expected, sizeof(expected), "a whole number from %lld to %lld", (long long)field->min,
				       (long long)field->max);
			return wrong(call, field->key, expected);
		}
		*(int64_t *)field->out = json_integer_value(value);
		return 0;
	case JSON_FLAG:
		if (!json_is_boolean(value))
			return wrong(call, field->key, "true or false");
		*(bool *)field->out = json_is_true(value);
		return 0;
	case JSON_TEXTS:
		return read_texts(call, field, value);
	}
	return -EINVAL;
}

int fields_read(struct call *call, const struct json_field *fields, size_t count)
{
	const char *key;
	json_t *value;
	char clean[64];
	int r;

	if (!call->body)
		return call_problem(call, 400, "malformed", "The body is missing: expected a JSON object.");
	json_object_foreach(call->body, key, value) {
		const struct json_field *field = field_find(fields, count, key);

		if (!field)
			return call_problem(call, 400, "malformed", "\"%s\" is not a key of this call.",
					    log_clean(clean, sizeof(clean), key, strlen(key)));
		r = field_read(call, field, value);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < count; i++)
		if (fields[i].required && !json_object_get(call->body, fields[i].key))
			return call_problem(call, 400, "malformed", "\"%s\" is missing.", fields[i].key);
	return 0;
}
