/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.h -- what a PoP says (docs/api.md, reportPop): read and checked. Pure; slices lie in the
 * arena or in the text it was read from.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/slice.h"
#include "control/hub.h"
#include "store/store.h"

struct err;

enum {
    REPORT_PEERS_MAX = 2048,
    REPORT_LOADS_MAX = 4096,
    REPORT_CLIENTS_MAX = 4096,
    REPORT_ACTIVITY_MAX = 4096,
    REPORT_VOLUMES_MAX = 4096, /* endpoints that have some */
    REPORT_ITEMS_MAX = 20'000,
    REPORT_ASKED_MAX = 20'000, /* places of clients, of all endpoints */
    REPORT_LINE_BYTES_MAX = 4096,
    REPORT_WORDS_BYTES_MAX = 2048,       /* a message, a reason */
    REPORT_NAME_BYTES_MAX = 128,         /* of whatever has one */
    REPORT_METADATA_BYTES_MAX = 1 << 20, /* a model's, of which a worker tells 128 KiB */
};

struct report_endpoint {
    uint64_t uid, serving, target; /* 0: none, not said */
    uint64_t generation;           /* that all loops of its gateways go by; 0: none yet */
    bool governed;                 /* it says which; a PoP of an earlier version does not */
    struct slice target_state, message;
    bool scaled; /* it says how many it wants there: */
    uint64_t desired;
    struct slice scale_reason, scale_text;
    uint64_t lines_kept; /* of what its replicas wrote there, that residency keeps from us */
    bool again;          /* it says so too often that it is ready: no event any more (granted.h) */
};

struct report_model {
    uint64_t endpoint_uid, number;
    struct slice metadata; /* JSON as clients get it; empty: larger than any may be */
};

struct report_item {
    uint64_t seq;
    bool refused; /* acknowledged, and nothing else (granted.h) */
    enum { REPORT_EVENT, REPORT_DEATH, REPORT_LOG } kind;
    union {
        struct store_event event;
        struct store_death death;
        struct store_log log;
    };
};

/* Inferences that clients of one place asked its gateway for. */
struct report_asked {
    uint64_t uid;  /* of the endpoint */
    uint32_t cell; /* asked_cell, a valid one */
    uint64_t requests;
};

struct report {
    uint64_t instance, sequence;
    struct slice sets; /* digest of its sets of countries; empty: not said */
    struct hub_replica *replicas;
    size_t replica_count;
    struct report_endpoint *endpoints;
    size_t endpoint_count;
    struct report_model *models;
    size_t model_count;
    struct hub_load *loads; /* of its endpoints */
    size_t load_count;
    bool loads_told;             /* what is not among them has not begun there */
    struct hub_clients *clients; /* of its endpoints */
    size_t client_count;
    struct hub_activity *activity; /* of endpoints, placed there or not */
    size_t activity_count;
    struct hub_volumes *volumes; /* by endpoint, placed there or not */
    size_t volumes_count;
    uint16_t gateway_port; /* 0: not said */
    struct slice peers;    /* JSON: [{"pop", "health", "elsewhere", "rtt_ms"}]; empty: not said */
    struct hub_peer *peer_list; /* the same, by name */
    size_t peer_count;
    uint64_t asked_ms; /* the time in which they were; 0: it says nothing of them */
    struct report_asked *asked;
    size_t asked_count;
    struct report_item *items; /* by seq */
    size_t item_count;
};

/* `at` missing or odd: now_ns. */
[[nodiscard]] int report_parse(struct arena *arena, struct slice text, struct slice pop,
                               int64_t now_ns, struct report *ret, struct err *err);
/* What several PoPs say of one endpoint as one: the revision that has the traffic, which is the
 * target once none of them serves another; the target is ready where one PoP has it ready, failed
 * where none has and one failed. What is said of an earlier target does not count. */
struct report_sum {
    uint64_t serving;
    struct slice target_state, message;
};
struct report_sum report_sum(const struct report_endpoint *rows, size_t count, uint64_t target);

/* Of who asks; report_asked.c. */
[[nodiscard]] int report_asked_read(struct arena *arena, yyjson_val *root, struct report *ret,
                                    struct err *err);
/* Of what they asked for; report_activity.c. */
[[nodiscard]] int report_activity_read(struct arena *arena, yyjson_val *root, struct report *ret,
                                       struct err *err);
/* Of what it keeps; report_volumes.c. */
[[nodiscard]] int report_volumes_read(struct arena *arena, yyjson_val *root, struct report *ret,
                                      struct err *err);
/* Bytes; 0: it has none. */
uint64_t report_volumes_of(const struct hub_volumes *volumes, size_t count, uint64_t endpoint_uid);
/* Of one model; report_model.c. */
struct slice report_model_json(struct arena *arena, yyjson_val *model);

/* The part that is kept for a restart: {"gateway_port", "sets", "replicas": [...], "endpoints":
 * [...]}, and back. */
struct slice report_keep(struct arena *arena, const struct report *report);
