/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP proxy on the way to the control plane, if there is one.
 *
 * It is spoken to with CONNECT (RFC 9110, 9.3.6) and sees where to, when and how much; TLS is end to end behind it, and nothing
 * of what it says is believed. A setting that cannot be used is never a reason to go past the proxy: every request then fails
 * with the reason.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "libipc/cleanup.h"

#define PROXY_URL_BYTES_MAX 1024
#define PROXY_SHOWN_BYTES 160
#define PROXY_CREDENTIAL_BYTES_MAX 512 /* name and password each */
#define PROXY_EXCEPT_BYTES_MAX 4096
#define PROXY_ERROR_BYTES 320

struct curl_slist;

struct proxy {
	char url[PROXY_URL_BYTES_MAX + 1];	 /* SCHEME://HOST:PORT, never with a name or a password; "": no proxy */
	char shown[PROXY_SHOWN_BYTES];		 /* the same for a person, with where it was set */
	struct curl_slist *authorization;	 /* the header line for the proxy; NULL: no name and password */
	char except[PROXY_EXCEPT_BYTES_MAX + 1]; /* hosts that are reached without it, see proxy_passes_by() */
	char *ca;		       /* PEM of the only authorities to believe of an https:// proxy; NULL: the system's */
	char error[PROXY_ERROR_BYTES]; /* why the setting cannot be used; "": it can */
};

/* What the command line says; NULL where it says nothing. */
struct proxy_options {
	const char *proxy;    /* URL, or "none" */
	const char *no_proxy; /* instead of the environment's */
	const char *ca_file;
};

/**
 * Find the settings: --proxy before https_proxy before all_proxy (each in lower, then in upper case), --no-proxy before no_proxy.
 *
 * The environment's variables are wiped where they stand and removed: /proc/PID/environ then shows no password, to root neither,
 * and libcurl sees no setting but ours. Says in the log what was found; a bad setting becomes proxy->error.
 *
 * @param proxy zeroed; the caller owns it: proxy_close()
 */
void proxy_open(const struct proxy_options *options, struct proxy *proxy);

/** Wipe the credentials, free the rest. */
void proxy_close(struct proxy *proxy);

/**
 * Take a URL apart: [http://|https://][NAME[:PASSWORD]@]HOST[:PORT], name and password percent-encoded. The default port is 3128
 * for http and 443 for https, as curl(1) does for the latter (it takes 1080 for the former, which is SOCKS's).
 * @param set_by the option's or variable's name, for a person
 * @return 0; -EINVAL with proxy->error set and no URL
 */
int proxy_parse(struct proxy *proxy, const char *text, const char *set_by);

/**
 * Does this list name the host? Entries are separated by commas or spaces: "*" names all; an address or ADDRESS/BITS names
 * addresses; anything else names the host of that name and those below it, with or without a leading dot, in any case.
 * @param host as in a URL: a name, an IPv4 address, an IPv6 address in brackets
 */
bool proxy_list_names(const char *list, const char *host);

/** Is this control plane reached without the proxy: there is none, the list names it, or it is an address of this very host
 * (127.0.0.0/8, [::1])?
 * @param url as link_url_check() left it */
bool proxy_passes_by(const struct proxy *proxy, const char *url);
