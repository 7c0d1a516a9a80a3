/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay.h -- distance for TCP connections, in user space: it listens where PoPs and control are
 * reached (127.0.1.i, 127.0.0.1) and passes on to where they listen (127.0.2.i), as late, slowly
 * and lossily as the link from the peer's place says (fleet/way.h).
 *
 * The peer's place is that of its source address. Towards the PoP a connection comes from `source`
 * and begins with a PROXY header of version 2, which has the true source and destination and the
 * link's round trip (TLV 0xE7) as it is when the connection comes. A half-closed side is passed on
 * as such, a reset as a reset, both behind what was sent before. A reader that is slow, and a queue
 * that is full, hold up the writer: kernel buffers are small, and so much is under way as the link
 * holds (way_queue_bytes).
 *
 * Faults: a cut link keeps its connections and passes nothing, both ways, nor does it for new ones,
 * until it is healed. A killed PoP's connections are reset and its listeners are closed. A slowed
 * link has a longer round trip from the next byte on.
 *
 * The caller owns the relay; fleet and loop are borrowed and outlive it; the process ignores
 * SIGPIPE. Loop thread only, and relay_free() not from inside a callback.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fleet/fleet.h"
#include "io/address.h"

struct err;
struct loop;
struct relay;

enum {
    RELAY_CONNECTIONS_MAX = 8192, /* unless told; above it a new one is closed at once */
    RELAY_PORTS_MAX = 1024,
    RELAY_BUFFER_BYTES = 32 << 10,     /* SO_SNDBUF and SO_RCVBUF of each of its sockets */
    RELAY_RECORD_BYTES = 1 << 30,      /* of all recordings, unless told */
    RELAY_RECORD_FILE_BYTES = 4 << 10, /* each file counts for, beside what is in it */
};

#define RELAY_RECORD_FULL "full"

struct relay_config {
    const struct fleet *fleet;
    struct ip source;         /* the relay's own, which PoPs trust; say 127.0.2.253 */
    uint32_t connections_max; /* 0: RELAY_CONNECTIONS_MAX */
    uint64_t seed;
    /* A folder for what goes over links between PoPs (control included), a file for each way of
     * each connection: NUMBER.FROM.TO.sent, .answered. NULL: nothing is recorded. Above
     * `record_bytes_max` (0: RELAY_RECORD_BYTES) of all together nothing is: a file
     * RELAY_RECORD_FULL beside them says so, and the log. */
    const char *record;
    uint64_t record_bytes_max;
};

struct relay *relay_new(struct loop *loop, const struct relay_config *config);
void relay_free(struct relay *relay); /* NULL is allowed; connections are reset */

/* What comes to `face` goes to `inside`, over the links of PoP `pop`; `control`: it is no PoP's,
 * and kill does not close it. Port 0 of `face` takes a free one, and of `inside` that of `face`;
 * ret_face (or NULL) is as bound. */
[[nodiscard]] int relay_listen(struct relay *relay, const struct address *face,
                               const struct address *inside, size_t pop, bool control,
                               struct address *ret_face, struct err *err);

/* Links between two places, of which one is a PoP's; with `other` FLEET_PLACE_NONE all links of
 * `place`. ERR_BAD_INPUT: neither is a PoP's. */
[[nodiscard]] int relay_cut(struct relay *relay, uint16_t place, uint16_t other, struct err *err);
[[nodiscard]] int relay_slow(struct relay *relay, uint16_t place, uint16_t other,
                             uint32_t more_rtt_us, struct err *err);
/* Takes cuts and slowness back, those of the file included; place FLEET_PLACE_NONE: everywhere. */
[[nodiscard]] int relay_heal(struct relay *relay, uint16_t place, uint16_t other, struct err *err);
void relay_kill(struct relay *relay, size_t pop);
/* Its listeners are there again. */
[[nodiscard]] int relay_revive(struct relay *relay, size_t pop, struct err *err);

struct relay_link_state {
    struct fleet_link link; /* as it is now; outage: cut */
    uint32_t slowed_us;     /* of rtt_us, by relay_slow() */
    uint32_t connections;
    uint64_t bytes; /* passed on, both ways */
    uint64_t stalls;
};
struct relay_link_state relay_link_state(const struct relay *relay, size_t place, size_t pop);
bool relay_killed(const struct relay *relay, size_t pop);

struct relay_stats {
    uint32_t open, cut; /* connections now; of these, those that pass nothing */
    uint64_t accepted, refused;
    uint64_t held_bytes; /* under way now */
};
struct relay_stats relay_stats(const struct relay *relay);
