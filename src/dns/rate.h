/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rate.h -- how often a prefix may ask without showing a cookie. One thread.
 *
 * A prefix (24 bits of IPv4, 56 of IPv6: what one customer or one server farm has) has a bucket by
 * the generic cell rate algorithm: one word. The table is of fixed size; prefixes that meet in one
 * word share a rate, under a hash that nobody outside can aim at.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/ip.h"

struct dns_rate;

enum { DNS_RATE_PER_S = 200, DNS_RATE_BURST = 400 }; /* answers, of one prefix */

struct dns_rate *dns_rate_new(void);
void dns_rate_free(struct dns_rate *rate); /* NULL is allowed */
/* Counts one; false: above the rate. */
bool dns_rate_pass(struct dns_rate *rate, const struct ip *ip, int64_t now_ns);
