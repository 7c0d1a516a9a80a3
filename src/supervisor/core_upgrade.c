/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes of another program than the supervisor's own are replaced, one kind after the other.
 * The new gateway starts beside the old one, which goes on until the new one is ready and then ends
 * its requests; agent, control and dns end before the next begins, as each writes what the other
 * would (what is asked meanwhile waits in the sockets); a template goes between two clones.
 * Replicas stay.
 */
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "supervisor/core_private.h"

#define GATEWAY_WITHIN_NS (10 * ENV_S)
#define OTHERS_WITHIN_NS (60 * ENV_S) /* a database may have to be brought to another form */
#define DRAIN_OTHERS_MS 3'000
#define DRAIN_GATEWAY_MS 300'000 /* for requests that run; idle connections have a second */
#define IDLE_MS 1'000
#define IDLE_OTHERS_MS 100 /* nobody serves meanwhile */

static bool current(const struct core_process *process)
{
    return process->generation == process->core->generation;
}

static void report(struct core *core, uint32_t state, const char *text)
{
    core->ops->on_upgrade(state, text, core->data);
}

static void on_late(struct env_timer *, void *data)
{
    core_upgrade_fail(data, "it was not ready in time");
}

static void ask(struct core *core, int64_t within_ns)
{
    core->upgrade.asked = true;
    env_timer_start(core->env, &core->upgrade.timer, within_ns, on_late, core);
}

static void end(struct core_process *process, uint32_t within_ms, uint32_t idle_ms)
{
    core_process_drain(process, within_ms, idle_ms);
    core_process_ends_within(process, within_ms + 500);
}

/* ---- one after the other; each returns whether it is done ----------------------------------- */

static bool gateway_done(struct core *core)
{
    struct core_process *gateway = core_role(core, ROLE_GATEWAY), *twin = core_twin(core);
    if (current(gateway) && gateway->state == PROCESS_SERVING)
        return true;
    if (core->upgrade.asked ||
        process_alive(twin)) /* one of an upgrade before, whose end is near */
        return false;
    ask(core, GATEWAY_WITHIN_NS);
    if (!process_alive(gateway))
        core_process_start_now(gateway);
    else if (!current(gateway))
        core_process_start_now(twin);
    return false;
}

static bool templates_done(struct core *core)
{
    struct core_process *template;
    bool done = true;
    LIST_EACH (template, &core->templates, struct core_process, link) {
        if (!process_alive(template) && !template->replacing)
            continue; /* the next start is of this program */
        done = done && current(template) && template->state == PROCESS_SERVING;
        if (current(template) || template->replacing || template->unwanted ||
            template_cloning(template))
            continue;
        template->replacing = true;
        core->ops->kill(template, core->data);
    }
    if (!done && !core->upgrade.asked)
        ask(core, OTHERS_WITHIN_NS);
    return done;
}

static bool role_done(struct core *core, struct core_process *process)
{
    if (current(process) && process->state == PROCESS_SERVING)
        return true;
    if (core->upgrade.asked)
        return false;
    ask(core, OTHERS_WITHIN_NS);
    if (!process_alive(process)) {
        core_process_start_now(process);
    } else if (!current(process)) {
        process->replacing = true;
        end(process, DRAIN_OTHERS_MS, IDLE_OTHERS_MS);
    }
    return false;
}

static bool step_done(struct core *core)
{
    switch (core->upgrade.step) {
    case UPGRADE_GATEWAY:
        return !core_runs(core, ROLE_GATEWAY) || gateway_done(core);
    case UPGRADE_TEMPLATES:
        return templates_done(core);
    case UPGRADE_AGENT:
        return !core_runs(core, ROLE_AGENT) || role_done(core, &core->agent);
    case UPGRADE_CONTROL:
        return !core_runs(core, ROLE_CONTROL) || role_done(core, &core->control);
    case UPGRADE_DNS:
        return !core_runs(core, ROLE_DNS) || role_done(core, &core->dns);
    case UPGRADE_DRAIN: /* has a time limit of its own */
        core->upgrade.asked = core->upgrade.asked || process_alive(core_twin(core));
        return !process_alive(core_twin(core));
    default:
        return false;
    }
}

static const char *step_text(enum core_upgrade_step step)
{
    static const char *const texts[] = {
        [UPGRADE_GATEWAY] = "gateway", [UPGRADE_TEMPLATES] = "templates",
        [UPGRADE_AGENT] = "agent",     [UPGRADE_CONTROL] = "control",
        [UPGRADE_DNS] = "dns",         [UPGRADE_DRAIN] = "the old gateway's end",
    };
    return texts[step];
}

static void step_report(struct core *core)
{
    const struct core_process *process = core->upgrade.step == UPGRADE_GATEWAY
                                             ? core_role(core, ROLE_GATEWAY)
                                         : core->upgrade.step == UPGRADE_AGENT   ? &core->agent
                                         : core->upgrade.step == UPGRADE_CONTROL ? &core->control
                                         : core->upgrade.step == UPGRADE_DNS     ? &core->dns
                                                                                 : NULL;
    char text[128];
    if (!core->upgrade.asked)
        return; /* there was nothing to do */
    if (process && process_alive(process))
        (void)snprintf(text, sizeof text, "%s is replaced, process %d",
                       step_text(core->upgrade.step), (int)process->pid);
    else if (core->upgrade.step == UPGRADE_TEMPLATES)
        (void)snprintf(text, sizeof text, "templates are replaced");
    else if (core->upgrade.step == UPGRADE_DRAIN)
        (void)snprintf(text, sizeof text, "the old gateway has ended");
    else
        return;
    report(core, UPGRADE_STEP, text);
}

void core_upgrade_step(struct core *core)
{
    while (core->upgrade.step != UPGRADE_NOT && !core->stage) {
        if (!step_done(core))
            return;
        env_timer_stop(core->env, &core->upgrade.timer);
        step_report(core);
        core->upgrade.asked = false;
        if (core->upgrade.step++ == UPGRADE_DRAIN) {
            core->upgrade.step = UPGRADE_NOT;
            report(core, UPGRADE_DONE, "");
        }
    }
}

void core_upgrade_begin(struct core *core)
{
    core->upgrade.step = UPGRADE_GATEWAY;
    core_upgrade_step(core);
}

bool core_upgrading(const struct core *core)
{
    return core->upgrade.step != UPGRADE_NOT;
}

void core_upgrade_fail(struct core *core, const char *why)
{
    struct core_process *twin = core_twin(core);
    enum core_upgrade_step step = core->upgrade.step;
    char text[320];
    if (step == UPGRADE_NOT)
        return;
    env_timer_stop(core->env, &core->upgrade.timer);
    core->upgrade.step = UPGRADE_NOT;
    core->upgrade.asked = false;
    if (twin->state == PROCESS_STARTING) {
        twin->unwanted = true;
        core->ops->kill(twin, core->data);
    }
    (void)snprintf(text, sizeof text, "the new %s: %s", step_text(step), why);
    report(core, UPGRADE_FAILED, text);
}

/* ---- what happens to processes -------------------------------------------------------------- */

/* The twin is ready: it serves, and the one before it ends its requests. */
void core_upgrade_gateway_ready(struct core *core)
{
    struct core_process *old = core_role(core, ROLE_GATEWAY);
    core->gateway = !core->gateway;
    core_role(core, ROLE_GATEWAY)->restarts = old->restarts;
    core_boot_peers(core);
    if (process_alive(old))
        end(old, DRAIN_GATEWAY_MS, IDLE_MS);
}

void core_upgrade_exited(struct core_process *process, const char *why)
{
    struct core *core = process->core;
    static const uint32_t roles[] = {
        [UPGRADE_GATEWAY] = ROLE_GATEWAY, [UPGRADE_TEMPLATES] = ROLE_TEMPLATE,
        [UPGRADE_AGENT] = ROLE_AGENT,     [UPGRADE_CONTROL] = ROLE_CONTROL,
        [UPGRADE_DNS] = ROLE_DNS,         [UPGRADE_DRAIN] = 0
    };
    if (core->upgrade.step != UPGRADE_NOT && core->upgrade.asked && current(process) &&
        roles[core->upgrade.step] == process->role)
        core_upgrade_fail(core, why);
    core_upgrade_step(core);
}
