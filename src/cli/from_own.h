/* SPDX-License-Identifier: Apache-2.0 */
/*
 * from_own.h -- inside `infer --from`: where it stands (from_place.c), what DNS says there
 * (from_dns.c), and the going there (from.c). One thread; all of it in the command's arena.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/ip.h"
#include "base/json.h"
#include "io/address.h"
#include "proto/dns_ask.h"

struct cli;
struct err;

struct from {
    struct cli *cli;
    const char *text;   /* as it was said */
    const char *told;   /* where to, instead of by DNS; or NULL */
    yyjson_val *places; /* of the box; NULL: none runs */
    bool bound;
    struct ip source; /* of the sockets, if bound */
    bool with_subnet;
    struct ip_block subnet;
    struct address server;
    const char *host;
    uint16_t port;
    struct dns_answer answer;
    size_t at; /* of its addresses: where it goes */
    const char *why;
    int64_t try_ms;   /* left for all tries, where none is under way */
    int64_t until_ns; /* by loop_now_ns(): then nothing more is tried */
};

int64_t from_left_ms(const struct from *from); /* of the time for all tries; 0: it is over */

/* ---- from_place.c: places of a network in a box ---------------------------------------------- */

/* NULL: there is no box. */
yyjson_val *from_places(struct cli *cli);
/* Finds where from->text is: sets bound and source, or with_subnet and subnet. */
[[nodiscard]] int from_stand(struct from *from, struct err *err);
bool from_face_of(yyjson_val *place, struct ip *ret); /* of a PoP; false: it has none */

/* ---- from_dns.c ------------------------------------------------------------------------------ */

/* Asks for from->host: its addresses, and begins with the first. */
[[nodiscard]] int from_resolve(struct from *from, struct err *err);
/* Why these, where DNS tells. */
void from_why_find(struct from *from);
