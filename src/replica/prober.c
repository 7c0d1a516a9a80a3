/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/prober.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "http/client.h"
#include "io/loop.h"
#include "io/socket.h"
#include "io/timer.h"

struct prober {
    struct loop *loop;
    struct http_client *client;
    struct probe_plan plan;
    char *path, *authority;
    prober_cb on_seen;
    void *data;
    struct timer *timer;            /* the next question, or the end of this one's time */
    struct http_call *call;         /* under way */
    struct stream_connect *connect; /* likewise */
    void *dialing;                  /* likewise, by the plan's dialer */
    unsigned failed;                /* in a row */
    unsigned open;                  /* callbacks that are still to come */
    bool well, given_up, freed;
    int64_t begun_ms;
    int status;      /* of the answer; 0: none came */
    unsigned missed; /* the dialer's, when it was asked */
};

static void again_in(struct prober *prober, int64_t ms)
{
    timer_start(prober->timer, ms);
}

enum { HASTE_MS = 5, HASTE_FOR_MS = 2'000, HURRY_MS = 20, HURRY_FOR_MS = 10'000 };

static int64_t pause_ms(const struct prober *prober)
{
    const struct probe_plan *plan = &prober->plan;
    int64_t age_ms = loop_now_ms(prober->loop) - prober->begun_ms;

    if (prober->given_up)
        return plan->period_ms;
    if (!plan->hasty)
        return plan->begin_ms;
    return age_ms < HASTE_FOR_MS ? HASTE_MS : age_ms < HURRY_FOR_MS ? HURRY_MS : plan->period_ms;
}

/* It was not asked: who makes sockets in its network was away, or had too much to do. */
static void not_asked(struct prober *prober, const char *why)
{
    again_in(prober, pause_ms(prober));
    if (prober->plan.hasty && !prober->well)
        prober->on_seen(prober, false, why, prober->data);
}

/* An answer, or that there was none. It may have been freed afterwards. */
static void seen(struct prober *prober, bool good, const char *why)
{
    bool before = prober->well;

    if (!good && prober->plan.scope && prober->plan.dialer->missed != prober->missed) {
        not_asked(prober, why);
        return;
    }
    prober->failed = good ? 0 : prober->failed + 1;
    prober->well = good || (before && prober->failed < prober->plan.failures);
    prober->given_up |= good || (!prober->plan.hasty && prober->failed >= prober->plan.failures);
    again_in(prober, pause_ms(prober));
    if (prober->well ? !before : prober->given_up || prober->plan.hasty)
        prober->on_seen(prober, prober->well, why, prober->data);
}

/* True: it was freed meanwhile, and is gone. */
static bool gone(struct prober *prober)
{
    prober->open--;
    if (!prober->freed)
        return false;
    if (prober->open == 0)
        free(prober);
    return true;
}

/* ---- by a connection ------------------------------------------------------------------------ */

static void on_connected(struct stream *stream, const struct err *err, void *data)
{
    struct prober *prober = data;

    if (stream)
        stream_close(stream);
    if (gone(prober) || (err && err->code == ERR_CANCELED)) /* its time was up */
        return;
    prober->connect = NULL;
    prober->dialing = NULL;
    seen(prober, stream != NULL, stream ? "" : err->message);
}

static void connect_begin(struct prober *prober)
{
    const struct probe_plan *plan = &prober->plan;

    if (plan->scope)
        prober->dialing = plan->dialer->dial(plan->dialer, prober->loop, plan->scope,
                                             &plan->address, on_connected, prober);
    else
        prober->connect = stream_connect(prober->loop, &plan->address, on_connected, prober);
    again_in(prober, plan->timeout_ms);
}

/* False: there is none under way. */
static bool connect_cancel(struct prober *prober)
{
    struct stream_connect *connect = prober->connect;
    void *dialing = prober->dialing;

    prober->connect = NULL;
    prober->dialing = NULL;
    if (dialing)
        prober->plan.dialer->cancel(dialing);
    else if (connect)
        stream_connect_cancel(connect);
    return dialing || connect;
}

/* ---- by HTTP -------------------------------------------------------------------------------- */

static void on_head(struct http_call *call, const struct http_response *response, void *data)
{
    (void)call;
    ((struct prober *)data)->status = response->status;
}

static void on_done(struct http_call *call, const struct err *err, void *data)
{
    struct prober *prober = data;
    char why[128];
    (void)call;

    if (gone(prober))
        return;
    prober->call = NULL;
    bool good = !err && prober->status >= 200 && prober->status < 400;
    if (!good && prober->status)
        snprintf(why, sizeof why, "its probe was answered %d%s", prober->status,
                 err ? ", and not to the end" : "");
    seen(prober, good, good ? "" : prober->status ? why : err->message);
}

static const struct http_call_events events = { on_head, NULL, on_done };

/* ---- asking --------------------------------------------------------------------------------- */

static void ask(struct prober *prober)
{
    const struct probe_plan *plan = &prober->plan;

    prober->open++;
    prober->missed = plan->scope ? plan->dialer->missed : 0;
    if (!plan->path.size) {
        connect_begin(prober);
        return;
    }
    static const struct http_header headers[] = { { { "User-Agent", 10 },
                                                    { "perigee-probe", 13 } } };
    struct http_request_spec spec = {
        .address = &plan->address,
        .authority = plan->authority,
        .method = "GET",
        .target = plan->path,
        .headers = headers,
        .header_count = 1,
        .timeout_ms = plan->timeout_ms,
        .fresh = true, /* that it still accepts connections is a part of it */
        .last = true,  /* none waits idle at a server that has room for few */
        .scope = plan->scope,
    };
    prober->status = 0;
    prober->call = http_client_call(prober->client, &spec, &events, prober);
}

static void on_timer(void *data)
{
    struct prober *prober = data;

    if (!connect_cancel(prober)) {
        ask(prober);
        return;
    }
    seen(prober, false, "it does not accept a connection in time");
}

struct prober *prober_new(struct loop *loop, struct http_client *client,
                          const struct probe_plan *plan, prober_cb on_seen, void *data)
{
    struct prober *prober = mem_zalloc(sizeof *prober);

    prober->loop = loop;
    prober->client = client;
    prober->plan = *plan;
    prober->path = mem_string(plan->path);
    prober->authority = mem_string(plan->authority);
    prober->plan.path = slice_of(prober->path);
    prober->plan.authority = slice_of(prober->authority);
    prober->on_seen = on_seen;
    prober->data = data;
    prober->timer = timer_new(loop, on_timer, prober);
    prober->begun_ms = loop_now_ms(loop);
    again_in(prober, 0);
    return prober;
}

void prober_free(struct prober *prober)
{
    if (!prober)
        return;
    timer_free(prober->timer);
    free(prober->path);
    free(prober->authority);
    prober->freed = true;
    if (prober->call) /* on_done() frees it */
        http_call_cancel(prober->call);
    (void)connect_cancel(prober);
    if (prober->open == 0)
        free(prober);
}
