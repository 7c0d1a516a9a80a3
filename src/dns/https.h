/* SPDX-License-Identifier: Apache-2.0 */
/*
 * https.h -- what the operator says of HTTPS (RFC 9460) at the zone's endpoints, where something
 * else ends TLS before Perigee's gateways: "alpn=h2,http/1.1 port=443". Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct err;
struct ip;

#define DNS_HTTPS_ENVIRONMENT "PERIGEE_HTTPS_RECORD" /* --https-record */

enum { DNS_ALPN_MAX = 4, DNS_ALPN_BYTES = 33 }; /* with the end */

/* All 0: nothing was said, and there is no such record. */
struct dns_https_told {
    bool told;
    uint16_t port; /* 0: not said, so 443 */
    char alpn[DNS_ALPN_MAX][DNS_ALPN_BYTES];
    uint8_t alpn_count; /* 0: not said, so http/1.1 */
};

/* Of hints, IPv4 first, those that there is room for: the first of each family, half of the room or
 * what the other leaves of it, so that who has one family alone is not left without. Returns how
 * many; IPv6 then lies behind the IPv4 that was kept. */
size_t dns_https_hints(struct ip *hints, size_t four, size_t six, size_t room);

/* As RFC 9460 writes parameters; alpn, port or both, each once. */
[[nodiscard]] int dns_https_parse(struct slice text, struct dns_https_told *ret, struct err *err);
