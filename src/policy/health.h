/* SPDX-License-Identifier: Apache-2.0 */
/*
 * health.h -- is a PoP up: from its heartbeats, and from what those who talk to it see. Pure, no
 * allocation; one thread at a time for each.
 *
 * Silent for HEALTH_SILENT_NS, or seen to fail, it is down at once. It is up again only once it has
 * been well for a while without a break, and that while doubles with each fall in quick succession,
 * so that one that flaps stays out. The first time, it is up with its first beat.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define HEALTH_SILENT_NS INT64_C(2'200'000'000)    /* one beat may be lost */
#define HEALTH_BACK_NS INT64_C(2'000'000'000)      /* well for so long, after the first fall */
#define HEALTH_BACK_MAX_NS INT64_C(64'000'000'000) /* after many */
#define HEALTH_CALM_NS INT64_C(120'000'000'000)    /* up for so long: its falls are forgotten */
#define HEALTH_FAILING_NS INT64_C(300'000'000)     /* failures in less are of one moment */
#define HEALTH_LASTING_NS INT64_C(3'000'000'000)   /* none for so long: the next is the first */
enum { HEALTH_SEEN_MIN = 5, HEALTH_FAILED_PERCENT = 50 };

/* All 0: never heard of, down. */
struct health {
    int64_t beat_ns;       /* last heartbeat; 0: none */
    int64_t well_since_ns; /* since when without a break; 0: not */
    int64_t up_since_ns;   /* 0: down */
    uint32_t falls;        /* of late */
    uint32_t seen, failed; /* requests to it in this window */
    int64_t window_ns;     /* began */
    int64_t failing_ns;    /* the first that failed in it, with `failed` */
    int64_t lasting_ns;    /* the first request that failed since one did not; 0: none */
    int64_t lasted_ns;     /* the last of those */
    int64_t refused_ns;    /* the first probe since the last beat that was told no; 0: none */
};

void health_beat(struct health *health, int64_t now_ns);
/* A request to it: `failed` when it could not be had at all. Half of at least five within a second
 * are a fall, at one that failed HEALTH_FAILING_NS after the first of them: what failed in one
 * moment, as when all its connections broke, says nothing of the next. Who saw one fail keeps away
 * for a while, so that all may fail in one moment, and then in another: where no request succeeded
 * between, the first of the earlier ones counts. */
void health_seen(struct health *health, bool failed, int64_t now_ns);
/* A probe: the same, but one that succeeds does not say that requests do. */
void health_probed(struct health *health, bool failed, int64_t now_ns);
/* A probe that failed, as somebody there said no: so does a kernel for a process that has ended,
 * where silence may be the way's. Two, HEALTH_FAILING_NS apart and without a beat between, are a
 * fall, however long the way is on which they are asked for. */
void health_refused(struct health *health, int64_t now_ns);
/* At any time, in any order with the above; times never go back. */
bool health_up(struct health *health, int64_t now_ns);
/* When health_up() may next say something else without a beat; INT64_MAX: never. */
int64_t health_due_ns(const struct health *health);
/* Has it been up without a fall for long: answers that name it may live longer. */
bool health_calm(const struct health *health, int64_t now_ns);
