/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hosts.h -- whom a Host addresses, and whether a web page may (docs/requests.md). Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct table_endpoint;
struct table_head;

enum host_kind {
    HOST_ANY,      /* an address, localhost, the zone: the path says which model */
    HOST_ENDPOINT, /* NAME.zone, NAME--PROJECT.zone, NAME.localhost, a domain */
    HOST_UNKNOWN,  /* under the zone, and nobody's: 404 */
    HOST_FOREIGN,  /* none of ours: 421 */
};

/* `host` is without port and brackets, letters as sent; empty is HOST_ANY (HTTP/1.0). */
enum host_kind host_find(const struct table_head *table, struct slice host, uint32_t *ret_endpoint);

/* "NAME" or "NAME--PROJECT" to a row; TABLE_NONE. */
uint32_t host_label_find(const struct table_head *table, struct slice label);

/* A request of a web page that does not belong here: Origin differs from the request's own host and
 * port, or Sec-Fetch-Site says cross-site. Empty slices: the header is not there. */
bool host_foreign_page(struct slice scheme, struct slice authority, struct slice origin,
                       struct slice sec_fetch_site);
