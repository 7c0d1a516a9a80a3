/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is a container well? By HTTP or a connection inside its network, or by a command in it, which the
 * engine runs: that one costs it some 90 ms, so that what has just been started is tried in haste
 * by a connection, and asked by the command once it accepts one, each period from then on.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "io/loop.h"
#include "io/timer.h"
#include "pop/agent.h"
#include "replica/engine/exec.h"
#include "replica/engine/hidden.h"
#include "replica/prober.h"

#define EXEC_ENDLESS_MS (INT64_C(365) * 24 * 3600 * 1000) /* its time is kept here */

struct container_probe {
    struct agent *agent;
    container_probe_cb on_seen;
    void *data;
    struct prober *prober; /* or, once that has done its part: */
    char *id;
    struct spec_strings command; /* the spec's, which outlives it */
    const struct engine_hidden *hidden;
    struct timer *timer;
    struct engine_exec *exec;
    int64_t period_ms, timeout_ms;
    uint64_t failures, failed; /* in a row */
    bool hasty, well;
    bool late; /* what runs has been counted as failed */
};

static void on_prober(struct prober *prober, bool well, const char *why, void *data)
{
    struct container_probe *probe = data;
    (void)prober;

    probe->on_seen(probe, well, why, probe->data);
}

/* ---- by a command ---------------------------------------------------------------------------- */

/* The next look is due already when it is told: the probe may be freed in it. */
static void verdict(struct container_probe *probe, bool good, const char *why)
{
    bool before = probe->well;

    probe->failed = good ? 0 : probe->failed + 1;
    probe->well = good || (before && probe->failed < probe->failures);
    timer_start(probe->timer, probe->period_ms);
    if (probe->well ? !before : probe->hasty || probe->failed >= probe->failures)
        probe->on_seen(probe, probe->well, why, probe->data);
}

/* It could not be asked: that says nothing of what is inside. */
static void no_verdict(struct container_probe *probe, const struct err *err)
{
    log_info("pop", "a probe's command was not run, asking again", LOG_S("container", probe->id),
             LOG_S("why", err->message));
    timer_start(probe->timer, probe->period_ms);
    if (probe->hasty && !probe->well)
        probe->on_seen(probe, false, err->message, probe->data);
}

/* One that answers, and runs it not, may do so for the container's sake: there is no room for
 * another process, somebody has paused it, its runtime's files are gone. */
static bool refused(const struct container_probe *probe, const struct err *err)
{
    return agent_engine_here(probe->agent) &&
           (err->code == ERR_NOT_FOUND || err->code == ERR_CONFLICT || err->code == ERR_BAD_INPUT ||
            err->code == ERR_PRECONDITION);
}

static void on_exec(int exit_code, const struct err *failed, void *data)
{
    struct container_probe *probe = data;
    struct err said = failed ? *failed : (struct err){}, *err = failed ? &said : NULL;
    char why[256];

    probe->exec = NULL;
    if (probe->late) { /* it was counted; the next one has its time already */
        probe->late = false;
        return;
    }
    engine_hide(probe->hidden, said.message);
    snprintf(why, sizeof why, "its probe's command ended with status %d", exit_code);
    if (err && refused(probe, err))
        snprintf(why, sizeof why, "its probe's command: %.200s", err->message);
    if (err && !refused(probe, err))
        no_verdict(probe, err);
    else
        verdict(probe, !err && exit_code == 0, err || exit_code ? why : "");
}

/* Due: the next one, or the end of the time of one that still runs. Of those there is never more
 * than one: a command that hangs would fill the container with its like. */
static void run(void *data)
{
    struct container_probe *probe = data;

    if (!probe->exec) {
        probe->exec = engine_exec(probe->agent->containers.engine, probe->agent->loop,
                                  slice_of(probe->id), probe->command.items, probe->command.count,
                                  EXEC_ENDLESS_MS, on_exec, probe);
        timer_start(probe->timer, probe->timeout_ms);
        return;
    }
    probe->late = true;
    if (agent_engine_here(probe->agent))
        verdict(probe, false, "its probe's command did not end in time");
    else
        timer_start(probe->timer, probe->period_ms);
}

static void on_listens(struct prober *, bool well, const char *why, void *data)
{
    struct container_probe *probe = data;

    if (!well) {
        probe->on_seen(probe, false, why, probe->data);
        return;
    }
    prober_free(take_ptr(probe->prober));
    timer_start(probe->timer, 0);
}

/* ---- which ----------------------------------------------------------------------------------- */

static void prober_begin(struct container_probe *probe, const struct container_place *place,
                         const struct spec_probe *spec, prober_cb on_seen)
{
    struct agent *agent = probe->agent;
    uint64_t port = spec->tcp_port ? spec->tcp_port : spec->http_port;
    struct probe_plan plan = {
        .path = spec->http_path,
        .begin_ms = probe->period_ms,
        .period_ms = probe->period_ms,
        .timeout_ms = probe->timeout_ms,
        .failures = (unsigned)probe->failures,
        .hasty = probe->hasty,
        .scope = place->replica,
        .dialer = agent_inside_dialer(agent),
    };

    address_from_ip(&place->ip, (uint16_t)(port ? port : place->port), &plan.address);
    if (!agent->containers.client)
        agent->containers.client = http_client_new(
            agent->loop, &(struct http_client_config){ .dialer = agent_inside_dialer(agent) });
    probe->prober = prober_new(agent->loop, agent->containers.client, &plan, on_seen, probe);
}

struct container_probe *container_probe_new(struct agent *agent,
                                            const struct container_place *place,
                                            const struct spec_probe *spec, bool hasty,
                                            container_probe_cb on_seen, void *data)
{
    struct container_probe *probe = mem_zalloc(sizeof *probe);
    struct spec_probe filled = spec_probe_fill(spec);

    probe->agent = agent;
    probe->on_seen = on_seen;
    probe->data = data;
    probe->hasty = hasty;
    probe->period_ms = (int64_t)(filled.period_ns / 1'000'000);
    probe->timeout_ms = (int64_t)((filled.timeout_ns + 999'999) / 1'000'000);
    probe->failures = filled.failures;
    probe->command = spec->command;
    probe->hidden = place->hidden;
    if (!spec->command.count) {
        prober_begin(probe, place, spec, on_prober);
        return probe;
    }
    probe->id = mem_string(place->id);
    probe->timer = timer_new(agent->loop, run, probe);
    if (hasty)
        prober_begin(probe, place, &(struct spec_probe){}, on_listens);
    else
        timer_start(probe->timer, 0);
    return probe;
}

void container_probe_free(struct container_probe *probe)
{
    if (!probe)
        return;
    prober_free(probe->prober);
    if (probe->exec)
        engine_exec_free(probe->exec);
    timer_free(probe->timer);
    free(probe->id);
    free(probe);
}
