/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns_codec.h -- libknot as dns_read.c, dns_write.c and dns_cookie.c call it, and the memory it
 * gets.
 *
 * The library is opened (dlopen), once a process, by the first codec: linked, it would bring GnuTLS
 * and six others into every process and command, 1.6 ms at each start. Inline functions of its
 * headers that call others are not used.
 */
#pragma once

#include <libknot/cookies.h>
#include <libknot/libknot.h>

#include "proto/dns.h"

/* X(function) */
#define KNOT_FUNCTIONS(X)                                                                          \
    X(knot_edns_add_option)                                                                        \
    X(knot_edns_cookie_server_check)                                                               \
    X(knot_edns_cookie_server_generate)                                                            \
    X(knot_edns_get_version)                                                                       \
    X(knot_edns_init)                                                                              \
    X(knot_pkt_begin)                                                                              \
    X(knot_pkt_clear)                                                                              \
    X(knot_pkt_new)                                                                                \
    X(knot_pkt_parse)                                                                              \
    X(knot_pkt_put_question)                                                                       \
    X(knot_pkt_put_rotate)                                                                         \
    X(knot_pkt_reclaim)                                                                            \
    X(knot_pkt_reserve)

struct dns_knot {
#define KNOT_MEMBER(function) typeof(function) *function;
    KNOT_FUNCTIONS(KNOT_MEMBER)
#undef KNOT_MEMBER
};

enum { DNS_CODEC_BYTES = 256 * 1024 }; /* a message's options twice, and libknot's own */

struct dns_codec {
    const struct dns_knot *knot;
    knot_mm_t mm; /* takes from `memory`, gives nothing back */
    size_t used;
    _Alignas(16) uint8_t memory[DNS_CODEC_BYTES];
};

static inline knot_mm_t *dns_codec_reset(struct dns_codec *codec)
{
    codec->used = 0;
    return &codec->mm;
}
