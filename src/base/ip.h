/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ip.h -- an IP address without a port, and a block of them. Plain data, any thread.
 *
 * IPv4 lies where it is mapped into IPv6 (::ffff:a.b.c.d, RFC 4291 2.5.5.2), so that one map, one
 * comparison and one prefix length serve both: a block of 24 bits of IPv4 has 120.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct err;

struct ip {
    uint8_t bytes[16];
};

struct ip_block {
    struct ip ip; /* what lies behind `bits` is 0 */
    uint8_t bits; /* 0 to 128; IPv4: 96 and more */
};

enum { IP_TEXT_BYTES = 48, IP4_BITS = 96 };

struct ip ip_from4(const uint8_t bytes[static 4]);
bool ip_is4(const struct ip *ip);
/* Without brackets, zone or port. */
bool ip_parse(struct slice text, struct ip *ret);
const char *ip_text(const struct ip *ip, char buffer[static IP_TEXT_BYTES]);

/* "203.0.113.0/24", "2001:db8::/32", or an address alone. ERR_BAD_INPUT says what is wrong, also
 * where bits behind the length are set. */
[[nodiscard]] int ip_block_parse(struct slice text, struct ip_block *ret, struct err *err);
bool ip_block_has(const struct ip_block *block, const struct ip *ip);
/* As ip_block_parse() takes it; an address alone without its length. */
const char *ip_block_text(const struct ip_block *block, char buffer[static IP_TEXT_BYTES]);
/* The address with what lies behind `bits` set to 0. */
struct ip ip_cut(const struct ip *ip, unsigned bits);
