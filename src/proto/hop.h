/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hop.h -- the signed header that a PoP adds to what it passes on to another, and to what it asks
 * it:
 *
 *   Perigee-Hop: v1; from=paris; to=tokyo; client=FR; deadline=29500; id=REQUEST_ID; mac=HEX
 *
 * `spent=1500; ` stands before `id` where that many ms of a deadline in the body have passed, and
 * `revision=3; ` behind it where the client's address chose one (policy/traffic.h). Behind those
 * may stand what a newer version adds: `name=VALUE; `, covered by the MAC, and else not looked at.
 * What must be understood is sent to a PoP alone that says it knows it (HOP_KNOWN).
 *
 * The MAC is HMAC-SHA-256 by the key that only control and these two PoPs have. It covers the
 * fields and what the request is about (struct hop_request): nobody else can say where a client is,
 * and what was signed for one endpoint and Perigee-Process-In is worth nothing for another. It
 * covers neither the body nor any other header, and there is no wall clock in it, since clocks may
 * be an hour off: who sees one on the wire can send it again, as often as he likes and with a body
 * and headers of his own. He is answered, and held for that client, in its country (mTLS between
 * PoPs ends that). Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct err;

#define HOP_HEADER "Perigee-Hop"
/* Which parameters are known here, as a PoP says it to the others (contract/peer_load.h). 0: who
 * says nothing, and refuses what he does not know. 1: `spent`; what is not known is ignored. */
#define HOP_KNOWN 1u
enum {
    HOP_KEY_BYTES = 32,
    HOP_MAC_HEX = 64,
    HOP_BYTES_MAX = 512,
    HOP_NAME_MAX = 63,
    HOP_ID_MAX = 128,
    HOP_PARAMETER_MAX = 32, /* its name */
    HOP_REVISION_MAX = 0xffffff
};
#define HOP_DEADLINE_MS_MAX UINT64_C(86'400'000)

struct hop {
    struct slice from, to; /* names of PoPs */
    char client[3];        /* its country, as the first PoP found it: "FR"; empty: not known */
    uint64_t deadline_ms;  /* what is left of it; 0: none */
    struct slice id;       /* of the request */
    struct slice mac;      /* HEX; of a parsed one */
    uint32_t revision;     /* that the first PoP chose by the client's address; 0: it did not */
    uint64_t spent_ms;     /* since it came to the first PoP */
    struct slice more;     /* parameters that are not known here, as they stand: "a=1; b=2; " */
};

/* What the MAC covers beside the fields. */
struct hop_request {
    struct slice method, target;
    struct slice endpoint;   /* "project/name"; empty: it is about none */
    struct slice process_in; /* value of Perigee-Process-In, or empty */
};

/* The header's value, terminated; returns its length. ERR_BAD_INPUT: a field that cannot stand in
 * it. */
[[nodiscard]] int hop_print(const struct hop *hop, const struct hop_request *request,
                            const unsigned char key[static HOP_KEY_BYTES],
                            char ret_text[static HOP_BYTES_MAX], struct err *err);
/* The slices point into `text`. Nothing of it is to be believed before hop_verify(). */
[[nodiscard]] int hop_parse(struct slice text, struct hop *ret, struct err *err);
/* In constant time. */
bool hop_verify(const struct hop *hop, const struct hop_request *request,
                const unsigned char key[static HOP_KEY_BYTES]);
/* The key of a pair, either way round, from the fleet's secret. */
void hop_key(const unsigned char secret[static HOP_KEY_BYTES], struct slice one, struct slice other,
             unsigned char ret_key[static HOP_KEY_BYTES]);
