/* SPDX-License-Identifier: Apache-2.0 */
/* Where a host is reached from outside, and how that is kept as text in the database. */
#pragma once

#include "libdoc/host.h"

/**
 * Choose a peer's endpoints: what the operator set, else what the host reports, else the address that the control plane saw.
 * @param operator_set "ADDRESS:PORT" or NULL
 * @param reported as endpoints_join() writes it; the first IPv6 and the first IPv4 are taken
 * @param seen an address, or NULL; goes with the reported port
 * @return their number, 0 to 2, IPv6 first
 */
unsigned endpoints_choose(const char *operator_set, const char *reported, const char *seen, uint16_t listen_port,
			  struct endpoint endpoints[static ENDPOINTS_MAX]);

#define ENDPOINTS_TEXT (REGISTRATION_ADDRESSES_MAX * ENDPOINT_TEXT)

/** A registration's addresses as text, separated by blanks. */
const char *endpoints_join(const struct registration *registration, char out[static ENDPOINTS_TEXT]);
