/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.h -- one call of control's API: from its head to its answer; and the table of routes.
 *
 * A request owns its arena and lives until its exchange has closed and its job has ended, whichever
 * comes last. Handlers run on the loop; what touches the store or the disk is a job on one of the
 * pools, whose end comes back to the loop. After the exchange has closed, replies do nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "control/job.h"
#include "http/exchange.h"
#include "http/server.h"
#include "proto/request_id.h"

struct arena;
struct control;
struct hub_endpoint;
struct hub_pop;
struct request;
struct store_audit;

/* X(constant, word, who may) */
#define SCOPES(X)                                                                                  \
    X(SCOPE_PUBLIC, "public", "Anybody who reaches the listener.")                                 \
    X(SCOPE_READ, "read", "Who may look.")                                                         \
    X(SCOPE_MANAGE, "manage", "Who may change endpoints.")                                         \
    X(SCOPE_POP, "pop", "A PoP's agent.")
enum scope {
#define SCOPE_ENUM(id, word, text) id,
    SCOPES(SCOPE_ENUM)
#undef SCOPE_ENUM
};

enum route_body {
    BODY_NONE,
    BODY_JSON,
    BODY_PATCH,
    BODY_REPORT,
    BODY_LEDGER,
    BODY_UPLOAD,
    BODY_MANIFEST,
};

enum {
    ROUTE_ROOT = 1,    /* the path is whole, not below /api/v1 */
    ROUTE_PROJECT = 2, /* also below /api/v1/projects/{project} */
    ROUTE_WATCH = 4,   /* ?watch=1: server-sent events */
    ROUTE_SECRET = 8,  /* what comes lies where no core file has it */
};

struct route {
    enum http_method method;
    const char *path;
    enum scope scope;
    unsigned flags;
    enum route_body body;
    void (*handler)(struct request *q);
    const char *operation;     /* operationId */
    const char *query;         /* parameters, by comma: rows of query_parameters */
    const char *takes, *gives; /* names of schemas; NULL: none */
    int status;                /* of success */
    const char *summary;
};

extern const struct route control_routes[];
extern const size_t control_route_count;

#define REQUEST_SPEC_BYTES_MAX (1u << 20)
#define REQUEST_REPORT_BYTES_MAX (16u << 20)

struct request {
    struct control *control; /* borrowed */
    struct exchange *x;      /* NULL once it has closed */
    struct arena *arena;
    const struct route *route;
    struct slice parts[HTTP_PATH_PARTS_MAX]; /* of the path, without the project */
    struct slice project;
    struct http_parameters query;
    char id[REQUEST_ID_BYTES];          /* X-Request-Id */
    bool trusted;                       /* came by the socket in the home */
    bool registry;                      /* below /v2/: errors have its form (registry.h) */
    const char *code_absent, *code_bad; /* and these codes where something is missing, or wrong */
    char secret[80];            /* SCOPE_POP: digest of what its agent showed; empty: trusted */
    bool running;               /* a job has it */
    bool *turn;                 /* of its PoP, until it is answered; NULL: none */
    int64_t started_ns, now_ns; /* the loop's clock; the wall's */

    char *body;               /* from malloc, */
    struct arena *body_arena; /* or in this one, a secret one */
    size_t body_bytes, body_room, body_bytes_max;

    struct job job;
    job_done_cb on_job_done;              /* its own; the handler's */
    void (*on_closed)(struct request *q); /* a handler's own end; NULL: none */
    void *data;                           /* the handler's, in the arena */
};

/* For http_server_events: control is the data. */
void request_on_head(struct exchange *x, void *control);
void request_on_refusal(struct arena *arena, const struct http_request *head, const struct err *err,
                        struct http_refusal *ret, void *control);

/* ---- reading ------------------------------------------------------------------------------ */
struct slice request_query(const struct request *q, const char *name); /* {} when absent */
bool request_flag(const struct request *q, const char *name);          /* "1" or "true" */
[[nodiscard]] int request_number(const struct request *q, const char *name, uint64_t max,
                                 uint64_t *value, struct err *err); /* absent: stays */
struct slice request_header(const struct request *q, const char *name);
struct slice request_bearer(const struct request *q); /* {}: there is none */
/* SCOPE_POP: is this still its PoP's secret? Asked at the head, and again with what is known when
 * something is to follow from it. `pop` NULL: there is no such PoP. Any thread. */
struct store_pop;
[[nodiscard]] int request_check_secret(const struct request *q, const struct store_pop *pop,
                                       struct err *err);
/* "?limit=N", 1 to max. */
[[nodiscard]] int request_limit(const struct request *q, uint64_t max, uint64_t *limit,
                                struct err *err);
/* "?after=ID&limit=N": without after, the last ones. */
struct store_page;
[[nodiscard]] int request_page(const struct request *q, struct store_page *ret, struct err *err);
/* Filled but for what differs. */
struct store_audit request_audit(struct request *q, const char *action);

/* ---- answering ---------------------------------------------------------------------------- */
/* Bodies live in the request's arena or longer. */
void request_reply(struct request *q, int status, struct slice json);
void request_reply_with(struct request *q, int status, const struct http_header *headers,
                        size_t count, const char *type, struct slice body);
void request_fail(struct request *q, const struct err *err);
[[gnu::format(printf, 3, 4)]] void request_refuse(struct request *q, int code, const char *format,
                                                  ...);
/* That the path names; NULL: it was refused. */
struct hub_endpoint *request_endpoint(struct request *q);

/* ---- jobs --------------------------------------------------------------------------------- */
/* `run` is on the store's (writing) or the reader's thread, inside a transaction, and touches the
 * request's arena alone; the loop leaves that alone meanwhile. `done` follows on the loop, also
 * when the client has gone. */
void request_write(struct request *q, job_run_cb run, job_done_cb done);
void request_read(struct request *q, job_run_cb run, job_done_cb done);
void request_disk(struct request *q, job_run_cb run, job_done_cb done); /* store is NULL */
void request_ask(struct request *q, job_run_cb run, job_done_cb done);  /* likewise */
static inline struct request *request_of_job(struct job *job)
{
    return (struct request *)job->data;
}

/* The exchange's handler for those that take no body, and to be used after an upload's own. */
extern const struct exchange_handler request_handler;
void request_closed(struct request *q); /* what on_closed does */
