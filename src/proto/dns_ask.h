/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns_ask.h -- DNS from the other side: a question as a client writes it, and of the answer what a
 * client wants: addresses, texts, and why there are none. Pure; any thread, no library.
 *
 * Names of records are not looked at: the server was asked for one, and only it was.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ip.h"
#include "proto/dns.h"

enum {
    DNS_ASK_BYTES_MAX = 12 + DNS_NAME_BYTES_MAX + 4 + 11 + 4 + 4 + 16,
    DNS_ASK_IPS_MAX = 32,
    DNS_ASK_TEXTS_MAX = 40,
};

struct dns_ask {
    uint16_t id; /* not to be guessed */
    uint16_t type;
    struct dns_name name;
    bool with_subnet; /* RFC 7871: the client is there, not where the question comes from */
    struct ip_block subnet;
};

/* Points into the message. */
struct dns_answer {
    uint16_t rcode;
    bool truncated;
    struct ip ips[DNS_ASK_IPS_MAX]; /* in their order */
    size_t ip_count;
    struct slice texts[DNS_ASK_TEXTS_MAX]; /* of a TXT record the first string */
    size_t text_count;
    uint32_t ttl; /* the least; 0: no records */
    int ede;      /* RFC 8914's number, or DNS_EDE_NONE */
    struct slice ede_text;
};

/* Into `buffer`; returns its size. */
size_t dns_ask_write(const struct dns_ask *ask, uint8_t buffer[static DNS_ASK_BYTES_MAX]);

/* ERR_NOT_FOUND: no answer to this question (another's, or forged): it may come yet.
 * ERR_BAD_INPUT: broken. */
[[nodiscard]] int dns_answer_read(const struct dns_ask *ask, const uint8_t *message, size_t bytes,
                                  struct dns_answer *ret, struct err *err);
