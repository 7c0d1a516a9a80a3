/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay_own.h -- the inside of a relay, between its listeners and faults (relay.c) and its
 * connections (relay_line.c).
 */
#pragma once

#include "base/env.h"
#include "base/list.h"
#include "fleet/relay.h"
#include "fleet/way.h"
#include "io/loop.h"
#include "io/socket.h"

struct alarm;
struct line;

enum { RELAY_READ_BYTES = 16 << 10 }; /* at once; each piece has its moment */

struct relay_link {
    struct fleet_link link; /* rtt_us without slowed_us */
    uint32_t slowed_us, connections;
    uint64_t bytes, stalls;
};

struct relay_port {
    struct list link; /* of relay->ports */
    struct relay *relay;
    struct address face, inside;
    size_t pop;
    bool control;
    int fd; /* -1: closed, its PoP is killed */
    struct listener *listener;
};

struct relay {
    struct loop *loop;
    const struct fleet *fleet;
    struct address source;
    uint32_t connections_max, ports_count;
    const char *record;                     /* borrowed */
    uint64_t random, recorded, record_left; /* files opened, bytes that may still be kept */
    struct list ports, lines;
    struct relay_link *links; /* by place, then PoP */
    bool killed[FLEET_POPS_MAX];
    struct env_timers timers; /* of lanes: when their first piece comes out */
    struct alarm *alarm;
    int64_t alarm_ns;
    struct relay_stats stats;
    char scratch[RELAY_READ_BYTES]; /* of one read */
};

/* One way of a line. */
struct lane {
    struct line *line;
    struct stream *from, *to; /* borrowed of the line; `to` NULL: not connected yet */
    struct way way;
    struct list pieces; /* under way, in order */
    size_t held_bytes;  /* in pieces, and in writes that the other side has not taken */
    struct env_timer timer;
    bool ended, reset; /* `from` sends no more, or broke */
    bool end_passed;
    bool dead; /* `to` takes no more: what comes is dropped */
    int64_t end_ns;
    int record; /* descriptor; -1: none */
};

/* A connection through the relay: one to the client, one to the PoP. */
struct line {
    struct list link; /* of relay->lines */
    struct relay *relay;
    struct relay_port *port;  /* borrowed; ports live as long as the relay */
    struct relay_link *terms; /* NULL: a place nobody knows, no distance */
    uint16_t place;
    struct stream *client, *server;
    struct stream_connect *connect;
    struct lane there, back;
    struct stream_write head; /* the PROXY header */
    char head_bytes[128];
    unsigned writes_open;
    bool cut, over;
    struct loop_task freed; /* frames below may still hold it */
};

/* relay_line.c */
void line_open(struct relay_port *port, struct stream *client);
void line_reset(struct line *line);
void line_cut(struct line *line);
void line_heal(struct line *line);

/* relay.c */
void relay_timer(struct relay *relay, struct env_timer *timer, int64_t due_ns, env_timer_cb on_due,
                 void *data);
