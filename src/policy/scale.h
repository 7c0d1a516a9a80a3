/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scale.h -- how many replicas a revision should have now at this PoP, and why. Pure, no
 * allocation; one thread at a time for each struct scale, of SCALE_STATE_BYTES.
 *
 * What must be served at a time is arrivals times the mean run (Little's law), or what runs, where
 * runs are longer than the window. From that, by the largest of:
 *
 *   steady   over the last 20 s, with a margin of its square root (square-root staffing: Halfin,
 *            Whitt 1981), so that a small endpoint has much room to spare and a large one little
 *   burst    over the last 3 s, without a margin
 *   queue    what waits, where it is more than the replicas there work off in 0.4 s
 *
 * More at once; fewer once fewer were enough for 5 s (or scale.down_delay, if that is longer); none
 * once nobody has asked for scale.idle. Not utilisation: a queue tells how much is missing, a full
 * replica does not. bench/scale compares this with Knative's autoscaler.
 *
 * `rps` and `cpu` take another figure instead of the first: requests a second, or cores in use,
 * over the same windows, by what one replica should have of it; without margin and queue.
 */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCALE_SECOND_NS INT64_C(1'000'000'000)
#define SCALE_SLOT_NS (SCALE_SECOND_NS / 2)
#define SCALE_CALM_NS (5 * SCALE_SECOND_NS)
#define SCALE_DRAIN_S 0.4f /* what waits is to be gone in so long */
enum { SCALE_STEADY_SLOTS = 40, SCALE_BURST_SLOTS = 6, SCALE_STATE_BYTES = 512 };

enum scale_signal { SCALE_CONCURRENCY, SCALE_RPS, SCALE_CPU };

struct scale_rules {
    uint32_t min, max; /* max 0: no replica may be */
    uint32_t floor;    /* of a schedule: at least so many now, within max; 0: none */
    uint32_t places;   /* requests that a replica may hold; of SCALE_CONCURRENCY */
    uint8_t signal;    /* enum scale_signal */
    float target;      /* of a replica: requests a second, or cores */
    int64_t idle_ns;   /* 0: at once */
    int64_t down_delay_ns;
};

/* What there is. Sums are of what came since the call before. */
struct scale_seen {
    int64_t now_ns; /* never goes back */
    uint32_t waiting, running;
    uint32_t ready, starting;
    bool kept; /* one is to be there as if somebody had asked */
    uint64_t arrivals;
    uint64_t done, busy_ns; /* runs that ended, and how long they took together */
    float cores;            /* in use by all replicas since the call before; of SCALE_CPU */
};

/* X(reason, text) */
#define SCALE_REASON_TABLE(X)                                                                      \
    X(SCALE_ASLEEP, "idle")     /* nobody asks, and nothing must be there */                       \
    X(SCALE_FIRST, "first")     /* a request waits, and nothing is known yet */                    \
    X(SCALE_STEADY, "steady")   /* the last 20 s */                                                \
    X(SCALE_BURST, "burst")     /* the last 3 s */                                                 \
    X(SCALE_QUEUE, "queue")     /* what waits */                                                   \
    X(SCALE_WARM, "warm")       /* nobody asks; it stays until scale.idle */                       \
    X(SCALE_CALMING, "calming") /* fewer would do, not for long enough yet */                      \
    X(SCALE_AT_MIN, "min")                                                                         \
    X(SCALE_AT_FLOOR, "schedule")                                                                  \
    X(SCALE_AT_MAX, "max")

enum scale_reason {
#define SCALE_REASON(reason, text) reason,
    SCALE_REASON_TABLE(SCALE_REASON)
#undef SCALE_REASON
        SCALE_REASONS
};

struct scale_verdict {
    uint32_t desired;
    uint8_t reason; /* enum scale_reason */
    uint8_t signal; /* enum scale_signal */
    uint32_t load;  /* replicas that the load alone would have */
    uint32_t waiting;
    float now;          /* of the signal, in the window that decided: requests at a time ... */
    float above, below; /* one more from there on, one fewer from there down; 0: neither */
    int64_t next_ns;    /* when to ask again without news; INT64_MAX: never */
    int64_t change_ns;  /* SCALE_WARM, SCALE_CALMING: when that ends */
    int64_t quiet_ns;   /* how long nobody has asked; of SCALE_WARM, SCALE_ASLEEP */
};

struct scale_slot {
    float arrivals;
    float level; /* mean of what ran, or of cores in use */
};

/* All 0: nothing is known. */
struct scale {
    struct scale_slot slots[SCALE_STEADY_SLOTS];
    int64_t slot;        /* number of the newest: time / SCALE_SLOT_NS */
    int64_t begun_ns;    /* the windows reach back to it at most */
    int64_t told_ns;     /* of the call before */
    int64_t asked_ns;    /* when somebody last asked, or something ran */
    int64_t fewer_ns;    /* since when fewer would do; 0: they would not */
    int64_t first_ns;    /* since when something runs and none has ended; 0: not */
    float run_s;         /* mean of a run; 0: not known */
    float level;         /* what ran at the call before */
    uint32_t desired;    /* by the call before */
    uint32_t fewer_most; /* the most that was wanted since fewer_ns */
};
static_assert(sizeof(struct scale) <= SCALE_STATE_BYTES, "as the header says");

/* How long fewer must have been enough. */
int64_t scale_hold_ns(const struct scale_rules *rules);
void scale_decide(struct scale *scale, const struct scale_rules *rules,
                  const struct scale_seen *seen, struct scale_verdict *ret);

/* As if somebody had asked now: what is there, or is to come, stays until it has been idle. */
void scale_wake(struct scale *scale, int64_t now_ns, uint32_t desired);

const char *scale_reason_text(enum scale_reason reason);
/* One sentence: why so many, and what would change it, without times that pass; `floor_name`: of
 * the schedule that set the floor, or NULL. Returns buffer. */
enum { SCALE_WORDS_BYTES = 320 };
const char *scale_words(const struct scale_verdict *verdict, const struct scale_rules *rules,
                        const char *floor_name, char buffer[static SCALE_WORDS_BYTES]);
