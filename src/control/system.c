/* SPDX-License-Identifier: Apache-2.0 */
/* Health, metrics, version, the description of the API. */
#include "base/arena.h"
#include "base/json.h"
#include "base/version.h"
#include "control/control.h"
#include "control/control_own.h"
#include "control/routes.h"
#include "http/server.h"

METRICS_DEFINE(control_metrics, CONTROL_METRICS)

void system_version(struct request *q)
{
    struct json_writer w;
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_member_text(&w, "version", PERIGEE_VERSION);
    json_member_text(&w, "api", "v1");
    json_member_u64(&w, "schema", store_schema());
    json_member_u64(&w, "spec", ENDPOINT_SPEC_VERSION);
    json_object_end(&w);
    request_reply(q, 200, json_end(&w));
}

void system_openapi(struct request *q)
{
    request_reply(q, 200, control_openapi(q->arena));
}

void system_health(struct request *q)
{
    request_reply_with(q, 200, NULL, 0, "text/plain; charset=utf-8", SLICE("ok\n"));
}

static int on_ready_run(struct job *job, struct store *store, struct err *err)
{
    struct store_page page = { .limit = 1 };
    struct store_endpoint *list;
    size_t count;
    return store->endpoint_list(store, &page, request_of_job(job)->arena, &list, &count, err);
}

static void on_ready_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    if (err)
        request_fail(q, err);
    else
        system_health(q);
}

void system_ready(struct request *q)
{
    if (q->control->draining)
        request_refuse(q, ERR_OVERLOADED, "control is ending");
    else
        request_read(q, on_ready_run, on_ready_done);
}

void system_metrics(struct request *q)
{
    const struct metrics_view view = { q->control->metrics_memory,
                                       metrics_bytes(CONTROL_SERIES_MAX) };
    request_reply_with(q, 200, NULL, 0, "text/plain; version=0.0.4; charset=utf-8",
                       metrics_print(q->arena, &control_metrics, &view, 1));
}
