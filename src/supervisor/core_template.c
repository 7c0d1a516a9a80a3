/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clones of one template have one layout of memory and one stack canary, so that what crashes teach
 * of one is true of the next. Each project has a template of its own, and crashes soon end what one
 * of them can teach.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "supervisor/core_private.h"

#define CLONE_WITHIN_NS (20 * ENV_S)
#define SPARE_NS (30 * ENV_S) /* a template that nothing needs twice in a row ends */
#define CRASHES_WITHIN_NS (60 * ENV_S)

enum {
    CRASHES = sizeof((struct core_process *)NULL)->crashed_ns / sizeof(int64_t),
    NAME_BYTES = sizeof((struct core_process *)NULL)->name,
    NAME_CUT = 25, /* the rest is for a number */
};

struct core_process *core_template_new(struct core *core)
{
    struct core_process *template = mem_zalloc(sizeof *template);
    core_process_init(core, template, ROLE_TEMPLATE, "");
    list_append(&core->templates, &template->link);
    core->template_count++;
    return template;
}

static void template_free(struct core_process *template)
{
    struct core *core = template->core;
    core_tell_process(core, template, PROCESS_EXITED, 0, MESSAGE_NO_RESTART * ENV_MS, "");
    env_timer_stop(core->env, &template->timer);
    list_remove(&template->link);
    core->template_count--;
    free(template);
}

bool template_cloning(const struct core_process *template)
{
    const struct core_replica *replica;
    LIST_EACH (replica, &template->core->replicas, struct core_replica, link) {
        if (replica->template == template && replica->state == REPLICA_CLONING)
            return true;
    }
    return false;
}

bool core_template_takes(const struct core_process *template)
{
    return template->state == PROCESS_SERVING && !template->replacing && !template->unwanted;
}

/* ---- the ends that are ours ------------------------------------------------------------------ */

static bool waited_for(const struct core_process *template)
{
    const struct core_replica *replica;
    LIST_EACH (replica, &template->core->replicas, struct core_replica, link)
        if (replica->template == template &&
            (replica->state == REPLICA_WAITING || replica->state == REPLICA_CLONING))
            return true;
    return false;
}

static void template_end(struct core_process *template)
{
    struct core *core = template->core;
    log_info("supervisor", "nothing needs a template, ending it", LOG_S("process", template->name));
    template->unwanted = true;
    core->ops->kill(template, core->data);
}

bool core_template_ended(struct core_process *template, int wait_status)
{
    struct core *core = template->core;
    env_timer_stop(core->env, &template->timer);
    template->pid = 0;
    template->unwanted = template->replacing = false;
    process_life_move(&template->state, PROCESS_IDLE);
    core_tell_process(core, template, PROCESS_EXITED, wait_status, MESSAGE_NO_RESTART * ENV_MS,
                      "nothing needs it");
    if (waited_for(template)) /* meanwhile something does */
        core_process_start_now(template);
    core_upgrade_step(core);
    return true;
}

/* A replica points to its template as long as it lives, also where its revision's project has been
 * said since, as after a state without projects. */
static bool needed(const struct core_process *template)
{
    const struct core_revision *revision;
    const struct core_replica *replica;
    LIST_EACH (replica, &template->core->replicas, struct core_replica, link)
        if (replica->template == template)
            return true;
    LIST_EACH (revision, &template->core->revisions, struct core_revision, link)
        if (strcmp(revision->project, template->project) == 0)
            return true;
    return false;
}

static void on_spare_due(struct env_timer *, void *data)
{
    struct core *core = data;
    struct core_process *template;
    bool again = false;
    if (core->stage)
        return;
    LIST_EACH (template, &core->templates, struct core_process, link) {
        bool was = template->spare;
        template->spare = !needed(template);
        again |= template->spare;
        if (!was || !template->spare || template->unwanted)
            continue;
        if (process_alive(template))
            template_end(template);
        else
            template_free(template);
    }
    if (again)
        env_timer_start(core->env, &core->spare_timer, SPARE_NS, on_spare_due, core);
}

void core_templates_look(struct core *core)
{
    const struct core_process *template;
    bool spare = false;
    LIST_EACH (template, &core->templates, struct core_process, link)
        spare |= !needed(template);
    if (spare && !core->stage && !env_timer_armed(&core->spare_timer))
        env_timer_start(core->env, &core->spare_timer, SPARE_NS, on_spare_due, core);
}

/* The one whose last clone is the longest ago gives way; it comes again when it is wanted. */
static void make_room(struct core *core)
{
    struct core_process *template, *least = NULL;
    uint32_t alive = 0;
    LIST_EACH (template, &core->templates, struct core_process, link) {
        alive += process_alive(template) && !template->unwanted;
        if (core_template_takes(template) && !waited_for(template) &&
            (!least || template->used_ns < least->used_ns))
            least = template;
    }
    if (alive >= TEMPLATES_ALIVE_MAX && least)
        template_end(least);
}

/* ---- the one for a replica ------------------------------------------------------------------- */

static bool name_taken(const struct core *core, const char *name)
{
    struct core *all = (struct core *)core; /* only looked at */
    const struct core_process *template;
    LIST_EACH (template, &all->templates, struct core_process, link)
        if (strcmp(template->name, name) == 0)
            return true;
    return false;
}

/* Metrics go by it, so that no two have the same, cut as it may be. */
static void name_make(const struct core *core, const char *runtime, const char *project,
                      char name[static NAME_BYTES])
{
    int size = project[0] ? snprintf(name, NAME_BYTES, "template %s/%s", runtime, project)
                          : snprintf(name, NAME_BYTES, "template %s", runtime);
    size = size < NAME_CUT ? size : NAME_CUT;
    for (unsigned i = 2; name_taken(core, name); i++)
        (void)snprintf(name + size, NAME_BYTES - (size_t)size, "~%u", i);
}

static void template_start(struct core_process *template)
{
    make_room(template->core);
    core_process_start_now(template);
}

struct core_process *core_template(struct core *core, const char *runtime, const char *project)
{
    struct core_process *template;
    LIST_EACH (template, &core->templates, struct core_process, link) {
        if (strcmp(template->runtime, runtime) != 0 || strcmp(template->project, project) != 0)
            continue;
        if (template->state == PROCESS_IDLE)
            template_start(template);
        return template;
    }
    if (core->template_count == TEMPLATES_MAX)
        return NULL;
    char name[sizeof template->name];
    name_make(core, runtime, project, name);
    template = core_template_new(core);
    memcpy(template->name, name, sizeof name);
    (void)snprintf(template->runtime, sizeof template->runtime, "%s", runtime);
    (void)snprintf(template->project, sizeof template->project, "%s", project);
    template_start(template);
    return template;
}

/* ---- its clones ------------------------------------------------------------------------------ */

static void on_clone_late(struct env_timer *, void *data)
{
    struct core_process *template = data;
    log_error("supervisor", "does not clone, killing it", LOG_S("process", template->name),
              LOG_I("pid", template->pid));
    template->core->ops->kill(template, template->core->data);
}

void core_template_busy(struct core_process *template, bool busy)
{
    struct core *core = template->core;
    if (!busy) {
        env_timer_stop(core->env, &template->timer);
        return;
    }
    template->cloned = true;
    template->used_ns = env_now_ns(core->env);
    env_timer_start(core->env, &template->timer, CLONE_WITHIN_NS, on_clone_late, template);
}

void core_template_crashed(struct core_process *template)
{
    memmove(template->crashed_ns, template->crashed_ns + 1, (CRASHES - 1) * sizeof(int64_t));
    template->crashed_ns[CRASHES - 1] = env_now_ns(template->core->env);
}

bool core_template_spent(const struct core_process *template)
{
    return template->cloned && template->crashed_ns[0] > 0 &&
           env_now_ns(template->core->env) - template->crashed_ns[0] < CRASHES_WITHIN_NS;
}

void core_template_renew(struct core_process *template)
{
    struct core *core = template->core;
    log_warn("supervisor", "replicas crash, the next one comes from a new template",
             LOG_S("process", template->name));
    template->replacing = true;
    core->ops->kill(template, core->data);
}
