/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy.h -- the PROXY protocol, versions 1 and 2: what a proxy says first on a connection about
 * who is behind it. Read and written; no I/O, no allocation; any thread.
 *
 * After HAProxy's "The PROXY protocol, versions 1 & 2" (proxy-protocol.txt, 2020/03/05). Of version
 * 2's TLVs those that the specification names are checked as to form and passed over (CRC-32c is
 * verified where it is there); PROXY_TLV_RTT is ours, in the range for custom use.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ip.h"

struct err;

enum {
    PROXY_BYTES_MAX = 4096,    /* of a header; a longer one is refused */
    PROXY_WRITE_BYTES = 128,   /* of one that we write */
    PROXY_SIGNATURE_BYTES = 12 /* after so many it is known whether it is one */
};

#define PROXY_TLV_RTT 0xE7 /* u32, network order: the link's round trip in microseconds */

struct proxy_header {
    /* False: LOCAL, UNKNOWN, or addresses that are no IP's. The connection's own hold. */
    bool known;
    struct ip source, destination;
    uint16_t source_port, destination_port; /* host order */
    bool rtt_known;
    uint32_t rtt_us;
};

enum proxy_result { PROXY_MORE, PROXY_WHOLE, PROXY_ABSENT };

/* Called with all bytes of the connection so far, at least one. PROXY_WHOLE: the first *ret_used
 * were the header; PROXY_ABSENT: the connection does not begin with one; PROXY_MORE: not known yet.
 * ERR_BAD_INPUT: it begins as one and goes on wrongly. Never MORE for PROXY_BYTES_MAX bytes. */
[[nodiscard]] int proxy_parse(const char *data, size_t size, struct proxy_header *ret,
                              size_t *ret_used, struct err *err);

/* Both return how many bytes they wrote. Version 1 has no room for a round trip. */
size_t proxy_write1(char buffer[static PROXY_WRITE_BYTES], const struct proxy_header *header);
size_t proxy_write2(char buffer[static PROXY_WRITE_BYTES], const struct proxy_header *header);
