/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/core.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "contract/dns_metrics.h"
#include "supervisor/core_private.h"
#include "sys/fd.h"
#include "sys/shm.h"

SM_DEFINE(process_life, PROCESS_STATES)

#define READY_WITHIN_NS (60 * ENV_S) /* a role that says nothing for so long hangs */
#define HEALTHY_NS (10 * ENV_S)      /* who served so long has earned a start at once */

int64_t core_backoff_ns(uint32_t failures, bool healthy)
{
    static const int64_t seconds[] = { 1, 2, 4, 8, 10 };
    enum { LAST = sizeof seconds / sizeof *seconds - 1 };
    if (healthy)
        return 0;
    return seconds[failures < LAST ? failures : LAST] * ENV_S;
}

void core_tell(struct core *core, uint32_t role, const void *message, size_t size, const int *fds,
               size_t fd_count)
{
    struct core_process *process = core_role(core, role);
    if (process_alive(process))
        core->ops->send(process, message, size, fds, fd_count, core->data);
}

void core_tell_gateways(struct core *core, const void *message, size_t size, const int *fds,
                        size_t fd_count)
{
    for (int i = 0; i < 2; i++)
        if (process_alive(&core->gateways[i]))
            core->ops->send(&core->gateways[i], message, size, fds, fd_count, core->data);
}

/* ---- a process's life ------------------------------------------------------------------------ */

static void process_start(struct core_process *process);

/* A template that never came up is tried again when somebody wants it: it may be missing for ever.
 */
static void on_restart_due(struct env_timer *, void *data)
{
    struct core_process *process = data;
    if (process->fresh && !process->proven)
        process_life_move(&process->state, PROCESS_IDLE);
    else
        process_start(process);
}

void core_process_drain(struct core_process *process, uint32_t within_ms, uint32_t idle_ms)
{
    struct core *core = process->core;
    struct message_drain message = MESSAGE_INIT(MESSAGE_DRAIN);
    message.within_ms = within_ms;
    message.idle_ms = idle_ms;
    if (process->state == PROCESS_STARTING) /* it has nothing that would be lost */
        core->ops->kill(process, core->data);
    else
        core->ops->send(process, &message, sizeof message, NULL, 0, core->data);
}

static void on_ends_late(struct env_timer *, void *data)
{
    struct core_process *process = data;
    log_warn("supervisor", "did not end in time, killing it", LOG_S("process", process->name),
             LOG_I("pid", process->pid));
    process->core->ops->kill(process, process->core->data);
}

void core_process_ends_within(struct core_process *process, uint32_t ms)
{
    env_timer_start(process->core->env, &process->timer, ms * ENV_MS, on_ends_late, process);
}

static void on_overdue(struct env_timer *, void *data)
{
    struct core_process *process = data;
    log_error("supervisor", "not ready in time, killing it", LOG_S("process", process->name),
              LOG_I("pid", process->pid));
    process->core->ops->kill(process, process->core->data);
}

/* Who enters networks holds nothing, and connections into containers wait for it: the first time it
 * starts again at once. */
static int64_t restart_delay_ns(const struct core_process *process, bool healthy)
{
    if (process->role != ROLE_NETNS)
        return core_backoff_ns(process->failures, healthy);
    return process->failures == 0 ? 0 : core_backoff_ns(process->failures - 1, healthy);
}

static void process_failed(struct core_process *process, int wait_status, const char *why)
{
    struct core *core = process->core;
    bool healthy = process->state == PROCESS_SERVING &&
                   env_now_ns(core->env) - process->ready_ns >= HEALTHY_NS;
    if (healthy)
        process->failures = 0;
    int64_t delay_ns = restart_delay_ns(process, healthy);
    process->failures += !healthy;
    process->restarts++;
    process->pid = 0;
    (void)snprintf(process->why, sizeof process->why, "%s", why);
    process_life_move(&process->state, core->stage ? PROCESS_ENDED : PROCESS_WAITING);
    env_timer_stop(core->env, &process->timer);
    if (core->stage)
        return;
    log_error("supervisor", "a process died", LOG_S("process", process->name), LOG_S("why", why),
              LOG_I("restart_in_ms", delay_ns / ENV_MS));
    core_tell_process(core, process, PROCESS_EXITED, wait_status, delay_ns, why);
    env_timer_start(core->env, &process->timer, delay_ns, on_restart_due, process);
}

/* Gateways have one sequence, and the lane set of its number: never that of a living twin. */
static uint64_t instance_next(struct core_process *process)
{
    struct core *core = process->core;
    const struct core_process *twin = &core->gateways[process == core->gateways];
    if (process->role != ROLE_GATEWAY)
        return process->instance + 1;
    uint64_t next = (process->instance > twin->instance ? process->instance : twin->instance) + 1;
    return next + (process_alive(twin) && ((next ^ twin->instance) & 1) == 0);
}

static void process_start(struct core_process *process)
{
    struct core *core = process->core;
    struct err err = {};
    process->instance = instance_next(process);
    process->generation = core->generation;
    process->fresh = process->role == ROLE_TEMPLATE;
    process->cloned = false;
    process->replacing = process->unwanted = false;
    int r = core->ops->start(process, core->data, &err);
    if (r < 0 && process == core_twin(core)) {
        core_upgrade_fail(core, err.message);
        return;
    }
    if (r < 0) {
        process_failed(process, 0, err.message);
        if (process->role == ROLE_TEMPLATE)
            replica_template_died(process, err.message);
        core_upgrade_exited(process, err.message);
        return;
    }
    process_life_move(&process->state, PROCESS_STARTING);
    env_timer_start(core->env, &process->timer, READY_WITHIN_NS, on_overdue, process);
    if (process->role != ROLE_TEMPLATE)
        core_boot_role(core, process);
    core_tell_process(core, process, PROCESS_STARTED, 0, 0, "");
}

void core_process_start_now(struct core_process *process)
{
    env_timer_stop(process->core->env, &process->timer);
    process_start(process);
}

void core_process_due(struct core_process *process, int64_t delay_ns)
{
    env_timer_cb on_due = process->state == PROCESS_WAITING ? on_restart_due
                          : process->replacing || process == core_twin(process->core) ? on_ends_late
                                                                                      : on_overdue;
    env_timer_start(process->core->env, &process->timer, delay_ns, on_due, process);
}

bool core_runs(const struct core *core, uint32_t role)
{
    return role == ROLE_CONTROL   ? core->config.control
           : role == ROLE_DNS     ? core->config.dns
           : role == ROLE_GATEWAY ? core->config.gateway
                                  : core->config.agent;
}

static bool all_ready(struct core *core)
{
    for (uint32_t i = 0; i < ROLES; i++)
        if (core_runs(core, ROLE_GATEWAY + i) &&
            core_role(core, ROLE_GATEWAY + i)->state != PROCESS_SERVING)
            return false;
    return true;
}

void core_process_ready(struct core_process *process, const char *text)
{
    struct core *core = process->core;
    if (process->state != PROCESS_STARTING || process->unwanted)
        return;
    process_life_move(&process->state, PROCESS_SERVING);
    process->ready_ns = env_now_ns(core->env);
    env_timer_stop(core->env, &process->timer);
    if (process == core_twin(core))
        core_upgrade_gateway_ready(core);
    core_tell_process(core, process, PROCESS_READY, 0, 0, text);
    if (!core->ready_once && all_ready(core)) {
        core->ready_once = true;
        core->ops->on_ready(core->data);
    }
    core_upgrade_step(core);
}

static void describe_status(int wait_status, char *text, size_t room)
{
    if (WIFSIGNALED(wait_status))
        (void)snprintf(text, room, "killed by signal %d (%s)", WTERMSIG(wait_status),
                       strsignal(WTERMSIG(wait_status)));
    else
        (void)snprintf(text, room, "exit status %d", WEXITSTATUS(wait_status));
}

/* A gateway that another stands beside, or has followed. */
static void twin_exited(struct core_process *process, const char *why)
{
    struct message_empty alone = MESSAGE_INIT(MESSAGE_ALONE);
    struct core *core = process->core;
    env_timer_stop(core->env, &process->timer);
    process->pid = 0;
    process_life_move(&process->state, core->stage ? PROCESS_ENDED : PROCESS_IDLE);
    log_info("supervisor", "a gateway ended, another is there", LOG_S("why", why));
    revisions_gateway_gone(core, process->instance);
    core_tell(core, ROLE_GATEWAY, &alone, sizeof alone, NULL, 0);
    core_upgrade_exited(process, why);
    core_stop_step(core);
}

/* True: what it was is gone on with, and nothing is to be waited for. */
static bool exited_in_place(struct core_process *process, int wait_status, const char *why)
{
    struct core *core = process->core;
    struct core_process *twin = core_twin(core);
    if (process == core_role(core, ROLE_GATEWAY) && twin->state == PROCESS_STARTING &&
        !twin->unwanted && !core->stage) {
        core->gateway = !core->gateway; /* the one that was to follow does so now */
        core_boot_peers(core);
    }
    if (process == core_twin(core)) {
        twin_exited(process, why);
        return true;
    }
    if (process->role == ROLE_TEMPLATE && process->unwanted && !core->stage)
        return core_template_ended(process, wait_status);
    if (!process->replacing || core->stage)
        return false;
    env_timer_stop(core->env, &process->timer);
    process_life_move(&process->state, PROCESS_WAITING);
    if (process->role == ROLE_AGENT)
        replicas_agent_gone(core);
    process_start(process);
    return true;
}

void core_process_exited(struct core_process *process, int wait_status)
{
    struct core *core = process->core;
    char why[96];
    assert(process_alive(process));
    describe_status(wait_status, why, sizeof why);
    if (exited_in_place(process, wait_status, why))
        return;
    bool own = process->role != ROLE_TEMPLATE && process->role != ROLE_NETNS;
    if (!core->ready_once && own && WIFEXITED(wait_status) &&
        WEXITSTATUS(wait_status) == ROLE_EXIT_HOPELESS)
        core->hopeless = true;
    process_failed(process, wait_status, why);
    if (process->role == ROLE_TEMPLATE)
        replica_template_died(process, why);
    if (process->role == ROLE_GATEWAY)
        revisions_gateway_gone(core, process->instance);
    if (process->role == ROLE_AGENT)
        replicas_agent_gone(core);
    core_upgrade_exited(process, why);
    if (core->hopeless && !core->stage)
        core_stop(core, false);
    else
        core_stop_step(core);
}

void core_process_init(struct core *core, struct core_process *process, uint32_t role,
                       const char *name)
{
    *process = (struct core_process){ .core = core, .role = role, .state = PROCESS_IDLE };
    list_init(&process->link);
    process->instance = core->config.instance_base;
    (void)snprintf(process->name, sizeof process->name, "%s", name);
}

/* ---- templates ------------------------------------------------------------------------------- */

static void template_hello(struct core_process *template, const struct perigee_hello *hello)
{
    struct core *core = template->core;
    bool terminated = memchr(hello->runtime, 0, sizeof hello->runtime) &&
                      memchr(hello->library, 0, sizeof hello->library) &&
                      memchr(hello->walls_off, 0, sizeof hello->walls_off);
    if (!template->fresh || !terminated || hello->version_min > PERIGEE_WORKER_VERSION ||
        hello->version_max < PERIGEE_WORKER_VERSION_LEAST) {
        log_error("supervisor", "a worker of another version, killing it",
                  LOG_S("process", template->name), LOG_U("least", hello->version_min),
                  LOG_U("most", hello->version_max), LOG_U("ours", PERIGEE_WORKER_VERSION));
        core->ops->kill(template, core->data);
        return;
    }
    template->fresh = false;
    template->proven = true;
    memcpy(template->library, hello->library, sizeof template->library);
    template->contract =
        (uint8_t)(hello->version_max < PERIGEE_WORKER_VERSION ? hello->version_max
                                                              : PERIGEE_WORKER_VERSION);
    template->walls = hello->walls;
    template->landlock_abi = hello->landlock_abi;
    memcpy(template->walls_off, hello->walls_off, sizeof template->walls_off);
    core_process_ready(template, template->library);
    replica_template_ready(template);
}

void core_template_message(struct core_process *process, const void *message, size_t size)
{
    union {
        uint32_t head[2];
        struct perigee_hello hello;
        struct perigee_cloned cloned;
    } copy = {};
    if (!process_alive(process))
        return;
    if (size <= sizeof copy)
        memcpy(&copy, message, size);
    bool ours = size <= sizeof copy && copy.head[0] == PERIGEE_WORKER_MAGIC;
    if (ours && copy.head[1] == PERIGEE_HELLO && size == sizeof copy.hello) {
        template_hello(process, &copy.hello);
    } else if (ours && copy.head[1] == PERIGEE_CLONED && size == sizeof copy.cloned &&
               process->state == PROCESS_SERVING) {
        replica_cloned(process, &copy.cloned);
    } else {
        log_error("supervisor", "a template that speaks nonsense, killing it",
                  LOG_S("process", process->name), LOG_U("bytes", size));
        process->core->ops->kill(process, process->core->data);
    }
}

/* ---- how it is ------------------------------------------------------------------------------ */

bool core_calm(const struct core *core)
{
    struct core *all = (struct core *)core; /* only looked at */
    struct core_process *const roles[] = { all->gateways, all->gateways + 1, &all->agent,
                                           &all->control, &all->dns };
    struct core_process *template;
    bool calm = !core->stage;
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        calm = calm && (!process_alive(roles[i]) || core->ops->writable(roles[i], core->data));
    LIST_EACH (template, &all->templates, struct core_process, link)
        calm = calm && (!process_alive(template) || core->ops->writable(template, core->data));
    return calm;
}

bool core_draining(const struct core *core)
{
    return process_alive(&core->gateways[!core->gateway]);
}

void core_tell_upgrade(struct core *core, const struct message_upgrade_state *message)
{
    core->upgrade_told = *message;
    core->upgrade_told.state = UPGRADE_COUNTS;
    core_tell(core, ROLE_AGENT, message, sizeof *message, NULL, 0);
}

bool core_hopeless(const struct core *core)
{
    return core->hopeless;
}

/* ---- life ------------------------------------------------------------------------------------ */

int core_new(struct env *env, const struct core_config *config, const struct core_ops *ops,
             void *data, struct core **ret_core, struct err *err)
{
    auto_close int metrics = -1, questions = -1;
    int r = shm_create("perigee-metrics", METRICS_REGION_BYTES, &metrics, err);
    if (r == 0)
        r = shm_create("perigee-metrics-dns", DNS_REGION_BYTES, &questions, err);
    if (r < 0)
        return r;
    struct core *core = mem_zalloc(sizeof *core);
    core->env = env;
    core->config = *config;
    core->ops = ops;
    core->data = data;
    core->generation = config->generation;
    core->upgrade_told = (struct message_upgrade_state)MESSAGE_INIT(MESSAGE_UPGRADE_STATE);
    core->metrics_fd = take_fd(metrics);
    core->dns_metrics_fd = take_fd(questions);
    core->table_fd = core->mesh_fd = -1;
    struct core_process *roles[] = { core->gateways, core->gateways + 1, &core->agent,
                                     &core->control, &core->dns };
    static const uint32_t names[] = { ROLE_GATEWAY, ROLE_GATEWAY, ROLE_AGENT, ROLE_CONTROL,
                                      ROLE_DNS };
    for (uint32_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        core_process_init(core, roles[i], names[i], role_name(names[i]));
        roles[i]->bit = (uint8_t)(names[i] <= ROLE_AGENT ? 1u << i : 0);
    }
    core_process_init(core, &core->netns, ROLE_NETNS, role_name(ROLE_NETNS));
    struct list *lists[] = { &core->templates, &core->replicas, &core->dead, &core->revisions };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        list_init(lists[i]);
    *ret_core = core;
    return 0;
}

void core_begin(struct core *core)
{
    static const uint32_t order[] = { ROLE_GATEWAY, ROLE_CONTROL, ROLE_AGENT, ROLE_DNS };
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (core_runs(core, order[i]))
            process_start(core_role(core, order[i]));
}

void core_free(struct core *core)
{
    if (!core)
        return;
    struct core_process *template;
    struct core_replica *replica;
    struct core_revision *revision;
    for (uint32_t i = 0; i < ROLES; i++)
        env_timer_stop(core->env, &core_role(core, ROLE_GATEWAY + i)->timer);
    env_timer_stop(core->env, &core_twin(core)->timer);
    env_timer_stop(core->env, &core->netns.timer);
    env_timer_stop(core->env, &core->stop_timer);
    env_timer_stop(core->env, &core->spare_timer);
    env_timer_stop(core->env, &core->upgrade.timer);
    LIST_EACH (replica, &core->replicas, struct core_replica, link)
        replica_free(replica);
    LIST_EACH (replica, &core->dead, struct core_replica, link)
        replica_free(replica);
    LIST_EACH (revision, &core->revisions, struct core_revision, link)
        revision_free(core, revision);
    LIST_EACH (template, &core->templates, struct core_process, link) {
        env_timer_stop(core->env, &template->timer);
        free(template);
    }
    fd_close(&core->metrics_fd);
    fd_close(&core->dns_metrics_fd);
    fd_close(&core->table_fd);
    fd_close(&core->mesh_fd);
    free(core);
}
