/* SPDX-License-Identifier: Apache-2.0 */
/* Perigee ends: role by role, each in its time, then what is left. */
#include "base/log.h"
#include "supervisor/core_private.h"

#define DRAIN_GATEWAY_MS 10'000
#define DRAIN_OTHERS_MS 3'000

static void on_drain_over(struct env_timer *, void *data)
{
    struct core *core = data;
    struct core_process *twin = core_twin(core);
    for (uint32_t i = 0; i < ROLES; i++) {
        struct core_process *process = core_role(core, ROLE_GATEWAY + i);
        bool its_turn = core->stage == STOP_GATEWAY + i;
        if (its_turn && process_alive(process)) {
            log_warn("supervisor", "did not end in time, killing it",
                     LOG_S("process", process->name));
            core->ops->kill(process, core->data);
        }
    }
    if (core->stage == STOP_GATEWAY && process_alive(twin))
        core->ops->kill(twin, core->data);
}

/* Asks the role whose turn it is, once; false when it is gone. */
static bool drain(struct core *core, struct core_process *process, uint32_t within_ms)
{
    if (!process_alive(process))
        return false;
    if (env_timer_armed(&core->stop_timer))
        return true;
    core_process_drain(process, within_ms, 0);
    env_timer_start(core->env, &core->stop_timer, (within_ms + 500) * ENV_MS, on_drain_over, core);
    return true;
}

static bool rest_gone(struct core *core)
{
    struct core_process *template;
    LIST_EACH (template, &core->templates, struct core_process, link) {
        if (process_alive(template))
            return false;
    }
    return core->replica_count == 0 && !process_alive(core_twin(core)) &&
           !process_alive(&core->netns);
}

static void kill_rest(struct core *core)
{
    struct core_process *template;
    LIST_EACH (template, &core->templates, struct core_process, link) {
        if (process_alive(template))
            core->ops->kill(template, core->data);
    }
    if (process_alive(core_twin(core)))
        core->ops->kill(core_twin(core), core->data);
    if (process_alive(&core->netns))
        core->ops->kill(&core->netns, core->data);
    replica_kill_all(core);
}

void core_stop_step(struct core *core)
{
    if (!core->stage || core->stage == STOP_DONE)
        return;
    for (uint32_t i = 0; i < ROLES; i++) {
        if (core->stage != STOP_GATEWAY + i)
            continue;
        if (drain(core, core_role(core, ROLE_GATEWAY + i), i ? DRAIN_OTHERS_MS : DRAIN_GATEWAY_MS))
            return;
        env_timer_stop(core->env, &core->stop_timer);
        core->stage++;
        if (core->stage == STOP_REST)
            kill_rest(core);
    }
    if (core->stage == STOP_REST && rest_gone(core)) {
        core->stage = STOP_DONE;
        core->ops->on_ended(core->data);
    }
}

static void end_waiting(struct core *core, struct core_process *process)
{
    if (process_alive(process) || process->state == PROCESS_ENDED)
        return;
    env_timer_stop(core->env, &process->timer);
    process_life_move(&process->state, PROCESS_ENDED);
}

void core_stop(struct core *core, bool now)
{
    struct core_process *template;
    bool first = core->stage == STOP_NOT;
    if (first) {
        core_upgrade_fail(core, "Perigee is ending");
        core->stage = STOP_GATEWAY;
        for (uint32_t i = 0; i < ROLES; i++)
            end_waiting(core, core_role(core, ROLE_GATEWAY + i));
        end_waiting(core, core_twin(core));
        end_waiting(core, &core->netns);
        LIST_EACH (template, &core->templates, struct core_process, link)
            end_waiting(core, template);
    }
    if (now) {
        for (uint32_t i = 0; i < ROLES; i++)
            if (process_alive(core_role(core, ROLE_GATEWAY + i)))
                core->ops->kill(core_role(core, ROLE_GATEWAY + i), core->data);
        kill_rest(core);
    }
    core_stop_step(core);
}
