/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /pops/NAME/usage: a part of a PoP's ledger (contract/ledger.h). Figures and how far the
 * ledger was counted change in one transaction, and nothing is counted but what follows the window
 * that was counted last, by its number and digest: so what comes twice counts once, and what comes
 * from another copy of the ledger does not count at all. The answer is how far it is counted.
 */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/env.h"
#include "base/json.h"
#include "base/log.h"
#include "contract/ledger.h"
#include "control/control_own.h"
#include "control/routes.h"

enum {
    AHEAD_S = 3600,      /* a PoP's clock may be so much ahead; further on it is not believed */
    MINUTE_MS = 120'000, /* a window of so long is of its minute, ... */
    HOUR_MS = 7'200'000, /* ... of its hour; a longer one of its day */
};
#define EARLIEST_S INT64_C(1'577'836'800) /* 2020: before it a clock was not set */

struct counting {
    struct slice pop;
    char ledger[33], digest[33];
    uint64_t counted, rows, refused;
    bool clock_wrong;
};

static int64_t time_of(const struct request *q, const struct ledger_record *window,
                       struct counting *p)
{
    int64_t now_s = q->now_ns / ENV_S, begin_s = window->begin_ms / 1000;
    if (begin_s >= EARLIEST_S && begin_s <= now_s + AHEAD_S)
        return begin_s;
    p->clock_wrong = true;
    return now_s;
}

static int count_window(struct request *q, struct store *store, const struct ledger_record *window,
                        struct counting *p, struct err *err)
{
    struct store_usage row = {
        .pop = p->pop,
        .start_s = time_of(q, window, p),
        .period_s = window->length_ms <= MINUTE_MS ? 60
                    : window->length_ms <= HOUR_MS ? 3600
                                                   : 86'400,
    };
    for (uint32_t i = 0; i < window->row_count; i++) {
        /* The PoP of `up` is told of all there is; another, of what was placed there. Of a revision
         * that never was nobody has anything. */
        uint64_t uid = window->rows[i].endpoint, revision = window->rows[i].revision;
        int known =
            store->usage_placed(store, uid, revision, q->trusted ? (struct slice){} : p->pop, err);
        if (known < 0)
            return known;
        p->refused += !known;
        if (!known)
            continue;
        row.endpoint_uid = uid;
        row.revision = revision;
        row.figures = window->rows[i].figures;
        int r = store->usage_add(store, &row, q->now_ns / ENV_S, err);
        if (r < 0)
            return r;
        p->rows++;
    }
    return 0;
}

static int wrong(struct err *err, const char *what)
{
    return err_set(err, ERR_BAD_INPUT, "the ledger %s", what);
}

static int count_windows(struct request *q, struct store *store, struct ledger_reader *reader,
                         const struct ledger_record *head, struct counting *p, struct err *err)
{
    struct ledger_record window;
    int r;
    while ((r = ledger_next(reader, q->arena, &window, err)) == 1) {
        if (window.type != LEDGER_WINDOW)
            continue;
        if (memcmp(&window.id, &head->id, sizeof head->id) != 0)
            return wrong(err, "holds windows of another ledger");
        if (window.first <= p->counted)
            return wrong(err, "holds windows out of order");
        r = count_window(q, store, &window, p, err);
        if (r < 0)
            return r;
        p->counted = window.last;
        ledger_hex(window.check.bytes, p->digest);
    }
    return r;
}

/* Whose it is, and how far it was counted. */
static int ledger_find(struct request *q, struct store *store, const struct ledger_record *head,
                       struct counting *p, struct err *err)
{
    struct store_ledger row = {};
    static const uint8_t none[16];
    int r = store->ledger_get(store, slice_of(p->ledger), q->arena, &row, err);
    if (r < 0 && r != ERR_NOT_FOUND)
        return r;
    if (strlen(head->pop) != p->pop.size || memcmp(head->pop, p->pop.data, p->pop.size) != 0)
        return err_set(err, ERR_CONFLICT, "this is a ledger of PoP '%s', not of '%s'",
                       ERR_TEXT(head->pop), ERR_SLICE(p->pop));
    if (r == 0 && !slice_equal(row.pop, p->pop))
        return err_set(err, ERR_CONFLICT,
                       "this ledger is that of PoP '%s': a home that was copied "
                       "needs a ledger of its own: remove pop/ledger in it",
                       ERR_SLICE(row.pop));
    p->counted = row.counted;
    ledger_hex(none, p->digest);
    if (row.digest.size == 32)
        memcpy(p->digest, row.digest.data, 32);
    return 0;
}

static int on_usage_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct counting *p = q->data;
    struct ledger_reader reader;
    struct ledger_record head;
    struct store_pop pop = {};
    char digest[33];
    int r = store->pop_get(store, p->pop, q->arena, &pop, err);
    if (r < 0 && r != ERR_NOT_FOUND)
        return r;
    r = request_check_secret(q, r == 0 ? &pop : NULL, err);
    if (r < 0)
        return r; /* deleted, or shut out, while this came in */
    ledger_read(&reader, (struct slice){ q->body, q->body_bytes }, true);
    r = ledger_next(&reader, q->arena, &head, err);
    if (r < 0)
        return r;
    if (r == 0 || head.type != LEDGER_FILE)
        return wrong(err, "has no head");
    ledger_hex(head.id.bytes, p->ledger);
    r = ledger_find(q, store, &head, p, err);
    if (r < 0)
        return r;
    ledger_hex(head.counted.bytes, digest);
    if (head.last != p->counted || strcmp(digest, p->digest) != 0)
        return 0; /* it goes on from elsewhere: the answer says where to go on from */
    uint64_t before = p->counted;
    r = count_windows(q, store, &reader, &head, p, err);
    if (r < 0 || p->counted == before)
        return r;
    const struct store_ledger row = { .ledger = slice_of(p->ledger),
                                      .pop = p->pop,
                                      .counted = p->counted,
                                      .digest = slice_of(p->digest),
                                      .seen_ns = q->now_ns };
    return store->ledger_put(store, &row, err);
}

static void on_usage_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct counting *p = q->data;
    struct json_writer w;
    if (err) {
        request_fail(q, err);
        return;
    }
    metric_add(control_count(q->control, CONTROL_USAGE_ROWS, &p->pop), p->rows);
    metric_add(control_count(q->control, CONTROL_USAGE_REFUSED, &p->pop), p->refused);
    if (p->clock_wrong)
        log_warn("control", "a PoP's clock is wrong: what it used is counted as used now",
                 LOG_SLICE("pop", p->pop));
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_member_text(&w, "ledger", p->ledger);
    json_member_u64(&w, "counted", p->counted);
    json_member_text(&w, "check", p->digest);
    json_object_end(&w);
    request_reply(q, 200, json_end(&w));
    control_usage_roll(q->control);
}

void pop_usage(struct request *q)
{
    struct counting *p = ARENA_NEW(q->arena, struct counting);
    p->pop = q->parts[0];
    q->data = p;
    request_write(q, on_usage_run, on_usage_done);
}

/* ---- old usage becomes coarser ------------------------------------------------------------ */

static int on_roll_run(struct job *job, struct store *store, struct err *err)
{
    return store->usage_roll(store, *(const int64_t *)job->data, err);
}

static void on_roll_done(struct job *job, const struct err *err)
{
    if (err && err->code != ERR_CANCELED)
        log_warn("control", "usage was not summed up, trying again in an hour",
                 LOG_S("error", err->message));
    job->control->roll = NULL;
    free(job);
}

void control_usage_roll(struct control *control)
{
    int64_t now_s = control_wall_ns(control) / ENV_S;
    if (control->roll || now_s / 3600 == control->rolled_s / 3600)
        return;
    control->rolled_s = now_s;
    control->roll = mem_zalloc(sizeof *control->roll);
    job_start(control, control->roll, JOB_WRITE, on_roll_run, on_roll_done, &control->rolled_s);
}
