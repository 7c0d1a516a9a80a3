/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway_world.h -- a supervisor, an agent and workers for a gateway that runs in this process:
 * the test holds the other ends of its channels, and a thread plays each replica over real rings.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <perigee/worker.h>

#include "base/slice.h"
#include "contract/messages.h"
#include "contract/table.h"

enum { WORLD_LOOPS = 2, WORLD_SLOTS = 16 /* half of them each lane set's */, WORLD_ROW = 4 };
#define WORLD_SLOT_BYTES (UINT64_C(1) << 20)
#define WORLD_ARENA_BYTES (UINT64_C(1) << 30)

/* How a fake replica behaves; may be changed while it runs. */
enum fake_mode {
    FAKE_RIGHT,        /* label: index of the row's largest number; probabilities: the row */
    FAKE_SILENT,       /* takes, never answers */
    FAKE_KEEPS,        /* the next one never; then as FAKE_RIGHT */
    FAKE_LIAR,         /* the completion index jumps */
    FAKE_NONSENSE,     /* an output outside its slot */
    FAKE_OTHER_TICKET, /* answers a ticket nobody gave it, then the right one */
    FAKE_REFUSES,      /* BAD_INPUT with words */
    FAKE_ODD_STATUS,   /* a status that is none */
    FAKE_FLOOD,        /* wakes without end */
    FAKE_HELD,         /* answers when fake_release() lets it */
    FAKE_STEPS,        /* answers one for each fake_step() */
    FAKE_SLOW,         /* answers after slow_ms */
};

struct fake {
    uint64_t id, revision;
    char name[64];
    pthread_t thread;
    _Atomic int mode;
    _Atomic bool stop;
    _Atomic uint32_t taken, served; /* submissions taken, right answers given */
    _Atomic uint32_t steps, slow_ms;
    pthread_mutex_t lock; /* over changes of `taken`, `stop` and a held mode, with: */
    pthread_cond_t changed;
    int submission_fd, output_fd, output_ro_fd, arena_fd; /* arena: borrowed */
    int pipes[WORLD_LOOPS][2];
    struct perigee_submission_page *submission;
    char *output;
    const char *arena;
    bool running;
    bool walls_later; /* set after fake_prepare(): the test says fake_walls() itself */
};

struct world {
    pthread_t thread;
    int supervisor_fd;
    struct channel *supervisor, *agent;
    int ports[2]; /* of the listeners */
    int listeners[WORLD_LOOPS];
    uint64_t instance;
    uint32_t flags; /* of START, set before it */
    uint32_t spin_us;
    int arena_fd;
    int metrics_fd;
    int exit_status;
    bool joined;
    const struct table_source_pop
        *pops; /* of tables; NULL: this one, and `paris` without address */
    size_t pop_count;
    const char *country; /* of this PoP; NULL: none */
};

struct world_endpoint {
    const char *name;
    uint32_t queue_depth, concurrency, start_ms;
    uint64_t queue_timeout_ms, queue_cold_ms, timeout_ms, body_bytes_max;
    uint64_t queue_bytes_max; /* 0: 256 MiB */
    uint32_t state;
    const char *message; /* of its revision */
    bool retried;        /* it has run before */
    uint32_t serving;    /* 0: none */
    uint32_t revisions;
    bool model; /* the table describes it */
    const struct residency_rule *rules;
    size_t rule_count;
    country_number unknown_client;
    const char *elsewhere;
    const struct table_source_placement *placements;
    size_t placement_count;
    const struct table_source_share *shares;
    size_t share_count;
    uint32_t canary; /* 0: none */
    bool by_address;
    const struct table_target *targets; /* its revisions are reached over HTTP, there */
    size_t target_count;
};

void world_start(struct world *world, uint64_t instance); /* up to, not with, GO */
void world_go(struct world *world);
void world_table(struct world *world, uint64_t number, const struct world_endpoint *endpoints,
                 size_t count);
void world_stop(struct world *world);        /* DRAIN, and its end */
void world_agent_again(struct world *world); /* a new PEER */
void world_send(struct world *world, const union message *message, const int *fds, size_t fd_count);
/* The next message of that type to the supervisor (or agent); others are dropped. Fails after 5 s.
 */
void world_expect(struct world *world, bool agent, uint16_t type, union message *ret);
bool world_maybe(struct world *world, bool agent, uint16_t type, int ms, union message *ret);
/* Until so many requests wait for a revision without a ready replica. The agent's channel is a new
 * one afterwards: what was not read is gone. */
void world_await_waiting(struct world *world, uint64_t revision, uint32_t count);
/* When it returns, every loop has made a pass since: what was sent before has been read. */
void world_pass(struct world *world);
/* Until the condition holds; false: not within 10 s. */
bool world_until(struct world *world, bool (*holds)(struct world *world, void *data), void *data);

#define WORLD_REVISION(endpoint, number) ((uint64_t)((endpoint) + 1) << 24 | (number))
/* fake_start() is both. */
void fake_prepare(struct world *world, struct fake *fake, uint64_t id, uint64_t revision);
void fake_begin(struct world *world, struct fake *fake, uint32_t concurrency);
void fake_start(struct world *world, struct fake *fake, uint64_t id, uint64_t revision,
                uint32_t concurrency);
void fake_added(struct world *world, struct fake *fake, uint32_t concurrency);
void fake_walls(struct world *world, struct fake *fake); /* the supervisor has seen them */
void fake_exit(struct world *world, struct fake *fake);  /* stops, and tells EXITED */
void fake_free(struct fake *fake);
void fake_await_taken(struct fake *fake, uint32_t count); /* in all; fails after 5 s */
void fake_release(struct fake *fake);                     /* FAKE_HELD becomes FAKE_RIGHT */
void fake_step(struct fake *fake);
struct slice fake_model(void);

/* One HTTP exchange over a connection of its own; the whole answer, terminated. */
struct reply {
    int status;
    char *text; /* head and body; freed by reply_free() */
    char *body;
    size_t body_bytes;
};
struct reply world_ask(struct world *world, const char *request, size_t size);
int world_connect(struct world *world);
struct reply world_read(int fd);
void reply_free(struct reply *reply);
