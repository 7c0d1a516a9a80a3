/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.h -- one inference, or other call, from head to log line. Internal to gateway/.
 *
 *   READING -> (HELD) -> WAITING -> RUNNING -> ANSWERED
 *
 * HELD: the model's description or the input arena is not there yet, be it for inputs that came
 * for an earlier revision. Every state may be answered
 * with an error. A request lives in its exchange's arena until on_closed; what a replica still
 * works on outlives it in a struct flight (dispatch.h). Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/sm.h"
#include "base/countries.h"
#include "gateway/core.h"
#include "http/exchange.h"
#include "http/server.h"
#include "proto/codec_gzip.h"
#include "proto/oip.h"
#include "proto/request_id.h"

#define REQUEST_STATES(X)                                                                          \
    X(REQUEST_READING, SM_TO(REQUEST_HELD) | SM_TO(REQUEST_WAITING) | SM_TO(REQUEST_RUNNING) |     \
                           SM_TO(REQUEST_ANSWERED))                                                \
    X(REQUEST_HELD, SM_TO(REQUEST_READING) | SM_TO(REQUEST_ANSWERED))                              \
    X(REQUEST_WAITING, SM_TO(REQUEST_RUNNING) | SM_TO(REQUEST_HELD) | SM_TO(REQUEST_ANSWERED))     \
    X(REQUEST_RUNNING, SM_TO(REQUEST_WAITING) | SM_TO(REQUEST_READING) | SM_TO(REQUEST_ANSWERED))  \
    X(REQUEST_ANSWERED, 0)
SM_DECLARE(request_state, REQUEST_STATES)

enum body_mode {
    BODY_NONE,
    BODY_JSON,  /* all of it is JSON */
    BODY_SPLIT, /* Inference-Header-Content-Length bytes of JSON, then tensors */
    BODY_RAW,   /* that header is 0: the one input's bytes */
    BODY_OTHER, /* small, for another call: on_text */
};

struct body {
    enum body_mode mode;
    enum codec coding;
    struct inflater *inflater;
    char *compressed; /* a read buffer, and what is not inflated of it */
    struct slice pending;
    char *text;
    uint64_t text_bytes, text_room, text_bytes_max;
    uint64_t text_wanted; /* of BODY_SPLIT */
    struct iovec *parts;  /* where tensors go */
    uint32_t part_count, part_at;
    uint64_t part_filled;
    uint64_t part_room; /* of all parts: counted against the memory, and not filled */
    uint64_t copied_seen;
    bool parsed; /* the JSON is; parts are known */
    bool ended;  /* the wire has no more */
    bool chunked;
    char overflow; /* one byte behind the last part: there must be none */
    bool overflown;
};

/* X(name): why a request is answered overloaded; the metric's label. */
#define REQUEST_SHEDS(X) X(unready) X(queue) X(bytes) X(deadline) X(displaced) X(memory)
enum request_shed {
#define REQUEST_SHED(name) SHED_##name,
    REQUEST_SHEDS(REQUEST_SHED)
#undef REQUEST_SHED
};

/* X(name): why residency refuses a request; the metric's label, and control hears of it. */
#define REQUEST_DENIALS(X) X(client_unknown) X(no_rule) X(narrowed) X(place) X(ended)
enum denial {
#define REQUEST_DENIAL(name) DENIAL_##name,
    REQUEST_DENIALS(REQUEST_DENIAL)
#undef REQUEST_DENIAL
};

struct request {
    struct exchange *x;
    struct arena *arena;
    struct gateway_loop *gl;
    enum request_state state;
    char id[REQUEST_ID_BYTES];
    struct slice trace;          /* a well-formed traceparent; for the log */
    struct slice origin_allowed; /* of a page that may read the answer */
    struct slice ended;          /* error's name, for metrics */
    enum request_shed shed;      /* should it be overloaded */
    enum denial denial;          /* of `denied` */
    uint32_t revision_named;     /* Perigee-Revision; 0: it did not come */
    uint32_t hop_revision;       /* as the PoP before chose it; 0: it did not */
    uint64_t point;              /* that shares are chosen by, once point_known */
    bool point_known;
    struct slice process_in;          /* Perigee-Process-In; data NULL: it did not come */
    const struct table *residency_of; /* by which residency was last asked */
    bool replica_words;    /* why it failed is said in a replica's: for its client, and no log */
    bool denied, unlogged; /* by residency; no line of it may be written at this PoP */
    struct countries *process; /* where it may be processed; NULL: anywhere */

    struct decision_record *decision; /* where it went and why; NULL: nobody else was looked at */
    bool decided;                     /* and it is kept by now */
    struct forward *forward;          /* it is with another PoP; NULL: not */
    struct proxy *proxy;              /* it is with a replica, over HTTP; NULL: not */
    bool http;                        /* its revision is reached so */
    bool relayed;                     /* the answer is that PoP's */
    bool hop_refused;          /* its Perigee-Hop was not right: who sent it hears that apart */
    bool hop;                  /* another PoP passed it on: it goes no further */
    country_number hop_client; /* where its client is, as that one says */

    struct table *table;              /* a reference */
    const struct table_endpoint *row; /* NULL: no endpoint */
    struct endpoint *endpoint;
    struct revision *revision;
    struct revision_side *side;
    const struct table_revision *revision_row;
    bool pinned; /* the client named the version */
    struct oip_route route;

    struct body body;
    struct oip_model *model;
    struct oip_request oip;
    struct block *block;
    struct revision_side *block_side; /* whose block it is: differs from side while it moves */
    struct kept_table {
        struct table *table; /* a reference */
        struct kept_table *next;
    } * kept;                              /* earlier tables that what was parsed points into */
    uint64_t inputs_offset, request_bytes; /* in the block */

    struct waiter waiter;
    struct list held, link, batch; /* side->held; gl->waiting; the endpoint's side->batch */
    struct list pace; /* side->uploads, gl->answers: a slow client may have to give way */
    bool counted, cold, retried, infer;
    bool parked;     /* HELD for a start, unread: it may yet go to another PoP, */
    int64_t look_ns; /* which is looked at then */
    bool tried;      /* though its deadline looked too short: is not asked again */
    uint64_t counted_bytes, budget_bytes;
    struct memory_budget *budget; /* that budget_bytes are of, its endpoint's; else the gateway's */
    struct env_timer timer;
    int64_t arrived_ns, queued_ns, submitted_ns, deadline_ns; /* deadline: 0 none */
    int64_t spent_ns; /* before it arrived here, at another PoP */
    uint64_t queue_ns, infer_ns;
    uint32_t rtt_us; /* to its client, once it is answered; 0: not known */
    struct flight *flight;

    struct lane *answer_lane; /* its slot is being written out */
    uint32_t answer_slot;
    uint64_t answer_taken; /* by the client, when it was last found fast enough */
    unsigned answer_slow_s;
    uint64_t number; /* of a call to the agent; 0: none */
    void (*on_text)(struct request *request, struct slice text);
};

/* Of one whose endpoint is known and that stays here: its revision, and what follows. */
void request_serve(struct request *request);
/* on_head of the loop's server; and what HTTP's own refusals look like. */
extern const struct http_server_events request_server_events;

/* ---- body.c --------------------------------------------------------------------------- */
/* Reads the headers that say what the body is, and begins to read it. */
[[nodiscard]] int body_begin(struct request *request, struct err *err);
[[nodiscard]] int body_begin_other(struct request *request, uint64_t bytes_max, struct err *err);
void body_space(struct exchange *x, struct iovec *ret_space, void *data);
void body_filled(struct exchange *x, size_t bytes, void *data);
void body_ended(struct exchange *x, const struct err *err, void *data);
void body_continue(struct request *request); /* what it was held for may be there */
/* Its revision, whose model and arena are there, has memory for inputs on this loop afterwards. */
void body_blocks(struct request *request);
void body_deinit(struct request *request);
/* Bytes beside the block, until the text is parsed and again until the end; false: too many. */
bool body_hold(struct request *request, uint64_t bytes);

/* ---- terms.c -------------------------------------------------------------------------- */
/* Deadline and class, as the client wants them. Headers first, parameters once the JSON is read. */
[[nodiscard]] int terms_headers(struct request *request, struct err *err);
void terms_parameters(struct request *request);

/* ---- traffic.c ------------------------------------------------------------------------ */
#define REVISION_CANARY (UINT32_C(1) << 24) /* request->revision_named: above all numbers */
/* The revision of an inference that names none; NULL: the endpoint has none at all. */
const struct table_revision *traffic_target(struct request *request, uint32_t *ret_row);
/* The row of the one that it names. ERR_NOT_FOUND, ERR_BAD_INPUT. */
[[nodiscard]] int traffic_named(struct request *request, uint32_t *ret_row, struct err *err);
[[nodiscard]] int traffic_header(struct request *request, struct slice value, struct err *err);
/* One of the endpoint's shares has a ready replica. */
bool traffic_ready(const struct table *table, uint32_t endpoint);
/* What the hop says: by its client's address; 0: nothing. */
uint32_t traffic_for_hop(struct request *request);

/* ---- residency.c, residency_count.c ---------------------------------------------------- */
enum residency_place {
    RESIDENCY_HERE,
    RESIDENCY_PASSES, /* another PoP may process it, and this one may see it pass */
    RESIDENCY_NOWHERE,
};
/* From the head; `passes`: it may be passed on, else PASSES is NOWHERE. ERR_RESIDENCY: NOWHERE; the
 * connection ends with the answer. */
[[nodiscard]] int residency_head(struct request *request, bool passes, enum residency_place *ret,
                                 struct err *err);
/* ERR_STOPPED: no replica of its endpoint may be here, and why. */
[[nodiscard]] int residency_elsewhere(const struct request *request, struct err *err);
/* Of one that is to be served here, once the table is another than last time. */
[[nodiscard]] int residency_check(struct request *request, struct err *err);
/* Of one that goes on after a try at another PoP, by that table: as at its head. *ret_process:
 * where it may be processed. */
[[nodiscard]] int residency_again(struct request *request, const struct table_head *table,
                                  uint32_t endpoint, enum residency_place *ret,
                                  struct countries *ret_process, struct err *err);
/* Of one that is under way, by that table: may it still be processed here (`pop` NULL), or pass
 * here and be processed at that PoP? Of one whose endpoint is gone nothing is said: 0. */
[[nodiscard]] int residency_under_way(struct request *request, const struct table *table,
                                      const char *pop, struct err *err);
/* It is ended by that, before it is answered or cut; said once for each endpoint and table. */
void residency_ends(struct request *request, const struct err *why);
/* Its endpoint in that table; TABLE_NONE: it is another, or gone. */
uint32_t residency_row(const struct request *request, const struct table *table);
/* By the maps, or as the hop says. */
country_number residency_client(const struct request *request);
void residency_count(struct request *request); /* of a denied one, at its end */

/* ---- admit.c -------------------------------------------------------------------------- */
void admit_request(struct request *request); /* the inputs are in their block */
/* Its endpoint runs, and here; else why not. */
[[nodiscard]] int request_away(const struct request *request, struct err *err);

/* ---- answer.c ------------------------------------------------------------------------- */
void answer_error(struct request *request, const struct err *err);
#define ANSWER_ERROR(request, code, ...)                                                           \
    do {                                                                                           \
        struct err answer_err_;                                                                    \
        (void)err_set(&answer_err_, (code), __VA_ARGS__);                                          \
        answer_error((request), &answer_err_);                                                     \
    } while (0)
/* The head of an answer that another PoP gives; its body goes to the exchange. `error`: the value
 * of its Perigee-Error, or empty. 101: the exchange is a tunnel from here. */
void answer_relay(struct request *request, int status, const struct http_headers *headers,
                  uint64_t content_length, struct slice error);
/* The head of a replica's answer over HTTP, with ours beside it; 101: the exchange is a tunnel from
 * here. Its body goes to the exchange. */
void answer_proxied(struct request *request, int status, const struct http_headers *headers,
                    uint64_t content_length);
void answer_method(struct request *request, const char *allow);
void answer_json(struct request *request, int status, struct slice body);
void answer_preflight(struct request *request);
/* From the lane's slot, which is the request's from here; false: it is not, an error was answered.
 */
bool answer_outputs(struct request *request, struct lane *lane, uint32_t slot,
                    const struct perigee_answer *answer);
void answer_release(struct request *request); /* the slot, at the latest when the exchange closes */
void answer_shed(struct gateway_loop *gl);    /* once a second: slow clients give way to waiters */
void answer_closed(struct request *request, const struct err *err); /* log and metrics */
const char *answer_id_make(struct gateway_loop *gl, const struct http_request *http,
                           char buffer[static REQUEST_ID_BYTES]);
void answer_refusal(struct arena *arena, const struct http_request *http, const struct err *err,
                    struct http_refusal *ret, void *data);

/* ---- calls.c, repository.c ------------------------------------------------------------ */
void call_answer(struct request *request); /* every call but infer, whose endpoint is found */
void repository_begin(struct request *request);
/* Its request 0: all that wait. */
void repository_done(struct gateway_loop *gl, const struct message_repository_done *done);
void repository_cancel(struct request *request);
struct oip_model *call_model(struct request *request, const struct model_info *info);
const struct table_revision *call_target(const struct table *table,
                                         const struct table_endpoint *endpoint, uint32_t *ret_row);
