/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns_name.h -- a domain name in wire form (RFC 1035 3.1): labels, each behind its length, then 0;
 * small letters, not compressed. Plain data, any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct err;

enum {
    DNS_NAME_BYTES_MAX = 255,
    DNS_LABEL_BYTES_MAX = 63,
    DNS_LABELS_MAX = 127,
    DNS_NAME_TEXT_BYTES = 1024, /* of any name, escaped, and the end */
};

struct dns_name {
    uint8_t bytes[DNS_NAME_BYTES_MAX];
    uint8_t size; /* 1: the root */
};

/* "perigee.test", with or without a dot at its end; nothing in it is an escape. */
[[nodiscard]] int dns_name_parse(struct slice text, struct dns_name *ret, struct err *err);
/* Without a dot at its end; what is no letter, digit, - or _ as \\DDD. */
const char *dns_name_text(const struct dns_name *name, char buffer[static DNS_NAME_TEXT_BYTES]);

bool dns_name_equal(const struct dns_name *a, const struct dns_name *b);
/* `name` is `zone`, or below it: *ret_bytes of it are before the zone (0: it is the zone). */
bool dns_name_below(const struct dns_name *name, const struct dns_name *zone, size_t *ret_bytes);
/* The label that begins at `at`, which is moved on; false: the root is there. */
bool dns_name_label(const struct dns_name *name, size_t *at, struct slice *ret_label);
/* `label` in front of `zone`; false: too long. */
bool dns_name_join(struct slice label, const struct dns_name *zone, struct dns_name *ret);
void dns_name_lower(uint8_t *bytes, size_t size); /* in place */
