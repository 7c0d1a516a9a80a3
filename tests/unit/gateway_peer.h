/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway_peer.h -- another PoP's gateway, for a test: a thread for each connection that
 * takes what it is sent, keeps the last of it, and answers as it is told.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum peer_mode {
    PEER_ECHOES,  /* 200 with the request's body, and headers of a connection that must not pass */
    PEER_CHUNKS,  /* the same, chunked */
    PEER_EARLY,   /* 413 before it has read the body */
    PEER_CLOSES,  /* after the head, without a word */
    PEER_STALE,   /* answers once for each connection, and closes it at the next request */
    PEER_LEAVES,  /* the same, but closes it once the test says so */
    PEER_KEYLESS, /* 400: the request's Perigee-Hop is not right */
    PEER_REFUSES, /* 503 overloaded */
    PEER_DENIES,  /* 451 residency */
    PEER_FAILS,   /* 500, which is an answer */
    PEER_BREAKS,  /* within its answer */
    PEER_STALLS,  /* within its answer, says nothing more until the other end closes */
    PEER_HINTS,   /* as PEER_ECHOES, with 100 and 103 before it */
    PEER_TUNNELS, /* 101, whatever was asked for; echoes, and says "bye" at the other end's end */
    PEER_MUTE,    /* 101, and not a byte */
    PEER_SILENT,  /* reads, and says nothing until the other end closes */
};

struct peer {
    pthread_t thread;
    _Atomic int mode;
    _Atomic unsigned connections, requests, gone; /* gone: the other end closed on it */
    _Atomic unsigned chunks;                      /* of the last body */
    _Atomic bool stop, leaves;
    int listener;
    uint16_t port;
    pthread_mutex_t lock; /* of what follows, while the peer answers */
    char *request;        /* the last one's head, terminated */
    char *body;           /* and its body, unframed */
    size_t body_bytes;
};

void peer_begin(struct peer *peer, enum peer_mode mode);
void peer_end(struct peer *peer);
