/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns_cookie.h -- the server's half of a DNS cookie (RFC 7873, made as RFC 9018 says: SipHash-2-4
 * over the client's cookie, the time and the client's address). Who shows one that is ours has
 * received an answer at that address not long ago. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/dns.h"

enum {
    DNS_COOKIE_SECRET_BYTES = 16,
    DNS_COOKIE_PAST_S = 3600, /* so old may one be (RFC 9018 4.3) */
    DNS_COOKIE_FUTURE_S = 300,
};

/* `now_s` is the wall clock's, as several servers of one address share the secret. */
void dns_cookie_make(const struct dns_codec *codec,
                     const uint8_t secret[static DNS_COOKIE_SECRET_BYTES],
                     const struct dns_cookie *cookie, const struct ip *client, uint32_t now_s,
                     uint8_t ret_server[static DNS_COOKIE_BYTES]);
bool dns_cookie_right(const struct dns_codec *codec,
                      const uint8_t secret[static DNS_COOKIE_SECRET_BYTES],
                      const struct dns_cookie *cookie, const struct ip *client, uint32_t now_s);
