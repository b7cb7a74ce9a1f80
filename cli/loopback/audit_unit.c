/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopback/audit_unit.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#define WORDS_MAX 1024 /* a list of all system calls there are has half as many */

/* -- Reading ----------------------------------------------------------------------------------------------------------------- */

static int setting_add(struct unit *unit, const char *file, const char *key, size_t key_n, const char *value, size_t value_n)
{
	struct unit_setting *grown = reallocarray(unit->list, unit->count + 1, sizeof(*grown));
	struct unit_setting *new;

	if (!grown)
		return -ENOMEM;
	unit->list = grown;
	new = &grown[unit->count++];
	*new = (struct unit_setting){ .key = strndup(key, key_n), .value = strndup(value, value_n), .file = strdup(file) };
	return new->key && new->value && new->file ? 0 : -ENOMEM;
}

/* Without blanks at both ends. */
static const char *trim(const char *text, size_t *n)
{
	while (*n > 0 && isspace((unsigned char)text[0])) {
		text++;
		(*n)--;
	}
	while (*n > 0 && isspace((unsigned char)text[*n - 1]))
		(*n)--;
	return text;
}

static int assignment_add(struct unit *unit, const char *file, const char *line, size_t n)
{
	const char *equals = memchr(line, '=', n);
	size_t key_n, value_n;
	const char *value;

	if (!equals)
		return 0;
	key_n = (size_t)(equals - line);
	value_n = n - key_n - 1;
	(void)trim(line, &key_n);
	value = trim(equals + 1, &value_n);
	return setting_add(unit, file, line, key_n, value, value_n);
}

/* A line that ends in a backslash goes on in the next one, with a blank between. @return a copy without such ends */
static char *join_lines(const char *text)
{
	char *joined = strdup(text);

	for (char *at = joined; at && (at = strstr(at, "\\\n")); at += 2)
		at[0] = at[1] = ' ';
	return joined;
}

int unit_read(struct unit *unit, const char *file, const char *text)
{
	_cleanup_free_ char *joined = join_lines(text);
	bool ours = false;
	char *rest = NULL;
	int r = joined ? 0 : -ENOMEM;

	for (char *line = joined ? strtok_r(joined, "\n", &rest) : NULL; r == 0 && line; line = strtok_r(NULL, "\n", &rest)) {
		size_t n = strlen(line);
		const char *trimmed = trim(line, &n);

		if (n == 0 || trimmed[0] == '#' || trimmed[0] == ';')
			continue;
		if (trimmed[0] == '[')
			ours = strncmp(trimmed, "[Service]", 9) == 0 || strncmp(trimmed, "[Socket]", 8) == 0;
		else if (ours)
			r = assignment_add(unit, file, trimmed, n);
	}
	return r;
}

int unit_read_properties(struct unit *unit, const char *text)
{
	int r = 0;

	for (const char *line = text; r == 0 && *line; line += strcspn(line, "\n"), line += *line == '\n')
		r = assignment_add(unit, "systemctl show", line, strcspn(line, "\n"));
	return r;
}

void unit_free(struct unit *unit)
{
	for (size_t i = 0; i < unit->count; i++) {
		free(unit->list[i].key);
		free(unit->list[i].value);
		free(unit->list[i].file);
	}
	free(unit->list);
	*unit = (struct unit){ .list = NULL };
}

/* -- Values ------------------------------------------------------------------------------------------------------------------ */

static bool listed(const char *const *names, size_t count, const char *key)
{
	for (size_t i = 0; i < count; i++) {
		size_t n = strlen(names[i]);

		if (strcmp(names[i], key) == 0 || (names[i][n - 1] == '*' && strncmp(names[i], key, n - 1) == 0))
			return true;
	}
	return false;
}

/* Each assignment adds to those before (systemd.exec(5)). */
static bool is_list(const char *key)
{
	static const char *const names[] = {
		"CapabilityBoundingSet", "AmbientCapabilities", "SupplementaryGroups", "RestrictAddressFamilies",
		"RestrictFileSystems", "RestrictNamespaces", "SystemCallFilter", "SystemCallArchitectures", "DeviceAllow",
		"ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "TemporaryFileSystem",
		"BindPaths", "BindReadOnlyPaths", "Exec*", "IPAddressAllow", "IPAddressDeny", "SocketBindAllow",
		"SocketBindDeny", "StateDirectory", "CacheDirectory", "RuntimeDirectory", "LogsDirectory",
		"ConfigurationDirectory", "Sockets", "LoadCredential*", "SetCredential*", "UnsetEnvironment", "Environment",
		"EnvironmentFile", "PassEnvironment", "OpenFile",
	};

	return listed(names, ARRAY_SIZE(names), key);
}

/* No right comes or goes with these: resources, restarts, logs, configuration by design. What is not in this list counts. */
static bool is_taste(const char *key)
{
	static const char *const names[] = {
		"CPU*", "Memory*", "IO*", "BlockIO*", "Tasks*", "LimitNOFILE", "LimitAS", "LimitCPU", "LimitRSS", "LimitNPROC",
		"LimitSTACK", "LimitDATA", "Nice", "OOM*", "ManagedOOM*", "Restart*", "Timeout*", "WatchdogSec",
		"RuntimeMaxSec", "StartLimit*", "Log*", "Syslog*", "Environment", "EnvironmentFile", "Slice", "Startup*",
		"AllowedCPUs", "NUMA*", "TimerSlackNSec", "KillMode", "SendSIGKILL", "FinalKillSignal", "DefaultMemory*",
		"SuccessExitStatus", "Backlog", "ReceiveBuffer", "SendBuffer", "TriggerLimit*", "PollLimit*", "MaxConnections*",
	};

	return listed(names, ARRAY_SIZE(names), key);
}

bool unit_value(const struct unit *unit, const char *key, struct phrase *value)
{
	bool is_set = false, list = is_list(key);

	for (size_t i = 0; i < unit->count; i++) {
		const struct unit_setting *one = &unit->list[i];

		if (strcmp(one->key, key) != 0)
			continue;
		is_set = true;
		if (!list || one->value[0] == '\0') {
			phrase_free(value);
			phrase_add(value, "%s", one->value);
		} else {
			phrase_add(value, value->n ? " %s" : "%s", one->value);
		}
	}
	return is_set;
}

/* "yes" and "no" are written in several ways (systemd.syntax(7)). */
static const char *plain(const char *value)
{
	static const char *const yes[] = { "yes", "true", "on", "1" }, *const no[] = { "no", "false", "off", "0" };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (strcasecmp(value, yes[i]) == 0)
			return "yes";
		if (strcasecmp(value, no[i]) == 0)
			return "no";
	}
	return value;
}

bool unit_flag(const struct unit *unit, const char *key)
{
	_cleanup_phrase_ struct phrase value = { .text = NULL };

	return unit_value(unit, key, &value) && value.n > 0 && strcmp(plain(phrase_text(&value)), "no") != 0;
}

/* -- Sets of words, in any order and case ------------------------------------------------------------------------------------ */

static size_t split(char *text, char **words)
{
	size_t count = 0;
	char *rest = NULL;

	for (char *word = strtok_r(text, " \t", &rest); word && count < WORDS_MAX; word = strtok_r(NULL, " \t", &rest))
		words[count++] = word;
	return count;
}

static bool word_among(const char *word, char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcasecmp(words[i], word) == 0)
			return true;
	return false;
}

/* Name the words of one list that are not in the other. @return how many */
static unsigned words_besides(const char *one, const char *other, struct phrase *out)
{
	_cleanup_free_ char *a = strdup(one), *b = strdup(other);
	char *of_a[WORDS_MAX], *of_b[WORDS_MAX];
	size_t n = a ? split(a, of_a) : 0, m = b ? split(b, of_b) : 0;
	unsigned count = 0;

	out->failed |= !a || !b;
	for (size_t i = 0; i < n; i++) {
		if (word_among(of_a[i], of_b, m))
			continue;
		phrase_add(out, " %s", of_a[i]);
		count++;
	}
	return count;
}

static bool same_words(const char *one, const char *other)
{
	_cleanup_phrase_ struct phrase unheard = { .text = NULL };

	return words_besides(one, other, &unheard) == 0 && words_besides(other, one, &unheard) == 0 && !unheard.failed;
}

static bool same_value(const char *key, const char *one, const char *other)
{
	if (strcmp(key, "CapabilityBoundingSet") == 0 || strcmp(key, "AmbientCapabilities") == 0 ||
	    strcmp(key, "RestrictAddressFamilies") == 0)
		return same_words(one, other);
	return strcmp(plain(one), plain(other)) == 0;
}

/* -- Shipped against in force ------------------------------------------------------------------------------------------------ */

/* Has this key been looked at before its i-th setting? */
static bool seen(const struct unit *unit, size_t i)
{
	for (size_t before = 0; before < i; before++)
		if (strcmp(unit->list[before].key, unit->list[i].key) == 0)
			return true;
	return false;
}

static const char *file_of(const struct unit *unit, const char *key)
{
	const char *file = NULL;

	for (size_t i = 0; i < unit->count; i++)
		if (strcmp(unit->list[i].key, key) == 0)
			file = unit->list[i].file;
	return file;
}

/* Of long lists only what differs. */
static void tell_list(const char *key, const char *file, const char *should, const char *is, struct phrase *out)
{
	_cleanup_phrase_ struct phrase more = { .text = NULL }, fewer = { .text = NULL };

	phrase_item(out, "%s sets %s=, which", file, key);
	if (words_besides(is, should, &more) > 0)
		phrase_add(out, " adds%s", phrase_text(&more));
	if (words_besides(should, is, &fewer) > 0)
		phrase_add(out, "%s lacks%s", more.n ? " and" : "", phrase_text(&fewer));
	if (!more.n && !fewer.n)
		phrase_add(out, " has the shipped words in another order");
}

static bool changed(const struct unit *shipped, const struct unit *in_force, const char *key, struct phrase *out)
{
	_cleanup_phrase_ struct phrase should = { .text = NULL }, is = { .text = NULL };
	bool was_set = unit_value(shipped, key, &should), is_set = unit_value(in_force, key, &is);
	const char *file = file_of(in_force, key);

	if (was_set == is_set && same_value(key, phrase_text(&should), phrase_text(&is)))
		return false;
	if (is_set && was_set && is_list(key) && is.n && should.n)
		tell_list(key, file, phrase_text(&should), phrase_text(&is), out);
	else if (is_set)
		phrase_item(out, "%s sets %s=%s; shipped: %s", file, key, phrase_text(&is),
			    was_set ? phrase_text(&should) : "not set");
	else
		phrase_item(out, "%s is not set; shipped: %s", key, phrase_text(&should));
	return true;
}

unsigned unit_changes(const struct unit *shipped, const struct unit *in_force, struct phrase *out)
{
	unsigned count = 0;

	for (size_t i = 0; i < in_force->count; i++)
		if (!seen(in_force, i) && !is_taste(in_force->list[i].key))
			count += changed(shipped, in_force, in_force->list[i].key, out);
	for (size_t i = 0; i < shipped->count; i++)
		if (!seen(shipped, i) && !is_taste(shipped->list[i].key) && !file_of(in_force, shipped->list[i].key))
			count += changed(shipped, in_force, shipped->list[i].key, out);
	return count;
}

/* -- Against the table ------------------------------------------------------------------------------------------------------- */

static bool unlike(const struct unit *unit, const char *key, const char *should, struct phrase *out)
{
	_cleanup_phrase_ struct phrase is = { .text = NULL };
	bool is_set = unit_value(unit, key, &is);

	if ((is_set || !should[0]) && (strncmp(key, "Cap", 3) == 0 || strncmp(key, "Amb", 3) == 0 ?
					       is_set && same_words(phrase_text(&is), should) :
					       strcmp(plain(phrase_text(&is)), should) == 0))
		return false;
	phrase_item(out, "%s=%s, where the table has %s", key, is_set ? phrase_text(&is) : "(not set)",
		    should[0] ? should : "none");
	return true;
}

unsigned unit_against_table(const struct unit *unit, const struct privileges *privileges, struct phrase *out)
{
	_cleanup_phrase_ struct phrase capabilities = { .text = NULL };
	const char *wanted;
	unsigned count = 0;

	for (size_t i = 0; i < privileges->count; i++)
		if (privileges->rows[i].kind == PRIVILEGE_CAP)
			phrase_add(&capabilities, capabilities.n ? " %s" : "%s", privileges->rows[i].name);
	wanted = phrase_text(&capabilities);
	count += unlike(unit, "User", privileges->rows[0].path, out);
	count += unlike(unit, "NoNewPrivileges", "yes", out);
	count += unlike(unit, "CapabilityBoundingSet", wanted, out);
	if (wanted[0] || file_of(unit, "AmbientCapabilities"))
		count += unlike(unit, "AmbientCapabilities", wanted, out);
	count += unlike(unit, "SupplementaryGroups", "", out);
	return count;
}

/* -- Files against the manager ----------------------------------------------------------------------------------------------- */

unsigned unit_against_manager(const struct unit *in_force, const struct unit *shown, struct phrase *out)
{
	/* Those that systemctl prints as they are written. */
	static const char *const keys[] = {
		"User", "Group", "NoNewPrivileges", "PrivateNetwork", "PrivateTmp", "PrivateDevices", "PrivateUsers",
		"PrivateMounts", "PrivateIPC", "ProtectSystem", "ProtectHome", "ProtectKernelTunables", "ProtectKernelModules",
		"ProtectKernelLogs", "ProtectControlGroups", "ProtectClock", "ProtectHostname", "ProtectProc", "ProcSubset",
		"LockPersonality", "MemoryDenyWriteExecute", "RestrictRealtime", "RestrictSUIDSGID", "RemoveIPC",
		"DevicePolicy", "KeyringMode", "CapabilityBoundingSet", "AmbientCapabilities",
	};
	unsigned count = 0;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		_cleanup_phrase_ struct phrase should = { .text = NULL }, is = { .text = NULL };

		if (!unit_value(in_force, keys[i], &should) || !unit_value(shown, keys[i], &is))
			continue; /* an older systemd knows fewer settings */
		if (same_value(keys[i], phrase_text(&should), phrase_text(&is)))
			continue;
		phrase_item(out, "systemd goes by %s=%s, the files say %s", keys[i], phrase_text(&is), phrase_text(&should));
		count++;
	}
	if (unit_flag(shown, "NeedDaemonReload")) {
		phrase_item(out, "a file was changed since systemd read it");
		count++;
	}
	return count;
}
