/* SPDX-License-Identifier: Apache-2.0 */
/* The core to the rows of handover.h, and back. Timers are saved by when they are due. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "contract/gateway_metrics.h"
#include "supervisor/core_private.h"
#include "supervisor/handover.h"
#include "sys/fd.h"

static uint64_t log_kept(const struct logring *log)
{
    return log->written < LOGRING_BYTES ? log->written : LOGRING_BYTES;
}

/* As a program of before reads it, where it can. */
static bool projects_said(struct core *core)
{
    const struct core_process *template;
    const struct core_revision *revision;
    bool said = false;
    LIST_EACH (template, &core->templates, struct core_process, link)
        said |= template->project[0] != 0;
    LIST_EACH (revision, &core->revisions, struct core_revision, link)
        said |= revision->project[0] != 0;
    return said;
}

/* ---- templates for a program that knows of no projects --------------------------------------- */

enum { RANKS = 3 };

struct templates { /* in the order of their rows */
    const struct core_process *rows[TEMPLATES_MAX];
    uint32_t count;
};

/* The lower, the more it is missed there. Those left out end with their channel. */
static unsigned rank(const struct core_process *template)
{
    return template_cloning(template) ? 0 : process_alive(template) ? 1 : 2;
}

static void templates_keep(const struct core *core, uint32_t flags, struct templates *ret)
{
    struct core *all = (struct core *)core;
    const struct core_process *template;
    bool few = flags & HANDOVER_NO_PROJECTS;
    ret->count = 0;
    for (unsigned i = 0; i < (few ? RANKS : 1); i++)
        LIST_EACH (template, &all->templates, struct core_process, link)
            if (!few || (rank(template) == i && ret->count < HANDOVER_TEMPLATES_BEFORE))
                ret->rows[ret->count++] = template;
}

void core_save_counts(const struct core *core, struct handover_head *head)
{
    struct core *all = (struct core *)core; /* only looked at */
    const struct core_replica *replica;
    struct templates kept;
    bool rows = !(head->flags & HANDOVER_NO_PROJECTS) && projects_said(all);
    templates_keep(core, head->flags, &kept);
    head->process_count = HANDOVER_ROLES + kept.count;
    head->revision_count = core->revision_count;
    head->replica_count = core->replica_count;
    head->dead_count = core->dead_count;
    head->used_count = (uint16_t)core->used_count; /* USED_MAX at most */
    head->flags |= rows ? HANDOVER_PROJECTS : 0;
    head->log_bytes = 0;
    LIST_EACH (replica, &all->replicas, struct core_replica, link)
        head->log_bytes += log_kept(&replica->log);
    LIST_EACH (replica, &all->dead, struct core_replica, link)
        head->log_bytes += log_kept(&replica->log);
}

/* ---- what is the same here and there: values, and arrays ------------------------------------- */

/* clang-format off */
#define PROCESS_FIELDS(V, A)                                                                       \
    V(state) V(instance) V(ready_ns) V(restarts) V(failures) V(generation)                         \
    V(fresh) V(proven) V(booting) V(replacing) V(unwanted) V(contract)                             \
    A(name) A(runtime) A(library) A(why) V(walls) V(landlock_abi) A(walls_off)
#define REVISION_FIELDS(V) V(uid) V(arena_fd) V(gone) V(told)
#define REPLICA_FIELDS(V, A)                                                                       \
    V(state) V(end) V(uid_index) V(pid) V(ending) V(told) V(out_of_memory)                         \
    V(submission_fd) V(output_fd) V(model_fd) V(log_fd) V(log_write_fd)                            \
    A(pipes) A(pipe_writes) V(submission_bytes) V(output_bytes)                                    \
    V(start) V(exited) A(end_text) V(walls) V(landlock_abi) A(walls_off)
/* clang-format on */

#define COPY(field) to->field = from->field;
#define COPY_ARRAY(field)                                                                          \
    static_assert(sizeof to->field == sizeof from->field, #field);                                 \
    memcpy(to->field, from->field, sizeof to->field);

/* ---- out ------------------------------------------------------------------------------------ */

static void save_process(const struct core_process *from, struct handover_process *to)
{
    const struct core *core = from->core;
    bool alive = process_alive(from);
    *to = (struct handover_process){
        .role = from->role,
        .due_ns = env_timer_armed(&from->timer) ? from->timer.due_ns : 0,
        .pid = alive ? from->pid : 0,
        .channel_fd = alive ? core->ops->channel((struct core_process *)from, core->data) : -1,
    };
    PROCESS_FIELDS(COPY, COPY_ARRAY)
}

/* Of a template that ends something else was thought there, and nothing starts it again. */
static void save_template(const struct core_process *from, uint32_t flags,
                          struct handover_process *to)
{
    save_process(from, to);
    if (flags & HANDOVER_NO_PROJECTS) {
        to->replacing |= to->unwanted;
        to->unwanted = false;
    }
}

/* In the place of one that is left out: another of its runtime. */
static int32_t template_row(const struct templates *kept, const struct core_process *wanted)
{
    for (uint32_t i = 0; i < kept->count; i++)
        if (kept->rows[i] == wanted)
            return (int32_t)(HANDOVER_ROLES + i);
    for (uint32_t i = 0; i < kept->count; i++)
        if (strcmp(kept->rows[i]->runtime, wanted->runtime) == 0)
            return (int32_t)(HANDOVER_ROLES + i);
    return -1;
}

static int32_t revision_row(const struct core *core, const struct core_revision *wanted)
{
    struct core *all = (struct core *)core;
    const struct core_revision *revision;
    int32_t row = 0;
    LIST_EACH (revision, &all->revisions, struct core_revision, link) {
        if (revision == wanted)
            return row;
        row++;
    }
    return -1;
}

static void save_revision(const struct core_revision *from, struct handover_revision *to)
{
    *to = (struct handover_revision){};
    REVISION_FIELDS(COPY)
}

static char *save_replica(const struct core *core, const struct templates *kept,
                          const struct core_replica *from, struct handover_replica *to, char *log)
{
    bool dead = from->state == REPLICA_DEAD;
    *to = (struct handover_replica){
        .cgroup = (uint8_t)from->cgroup,
        .template = dead ? -1 : template_row(kept, from->template),
        .revision = dead ? -1 : revision_row(core, from->revision),
        .log_written = from->log.written,
        .log_told = from->log.told,
        .log_bytes = log_kept(&from->log),
    };
    REPLICA_FIELDS(COPY, COPY_ARRAY)
    if (to->state == REPLICA_CLONING && kept->rows[to->template - HANDOVER_ROLES] != from->template)
        to->state = REPLICA_WAITING; /* nobody there would hear of that clone */
    /* The ring's memory as it lies: `written` says where it begins. */
    memcpy(log, from->log.bytes, to->log_bytes);
    return log + to->log_bytes;
}

static void save_projects(struct core *core, struct handover_project *to)
{
    const struct core_process *template;
    const struct core_revision *revision;
    if (!to)
        return;
    LIST_EACH (template, &core->templates, struct core_process, link)
        memcpy(to++->name, template->project, sizeof to->name);
    LIST_EACH (revision, &core->revisions, struct core_revision, link)
        memcpy(to++->name, revision->project, sizeof to->name);
}

void core_save(const struct core *core, struct handover *out)
{
    struct core *all = (struct core *)core;
    const struct core_process *const roles[] = { core->gateways, core->gateways + 1, &core->agent,
                                                 &core->control, &core->dns };
    const struct core_revision *revision;
    const struct core_replica *replica;
    struct handover_head *head = out->head;
    struct handover_process *process = out->processes;
    struct handover_revision *revisions = out->revisions;
    struct handover_replica *replicas = out->replicas;
    char *log = out->logs;
    struct templates kept;
    templates_keep(core, head->flags, &kept);
    head->gateway = (uint16_t)core->gateway;
    head->metrics_fd = core->metrics_fd;
    head->dns_metrics_fd = core->dns_metrics_fd;
    head->netns_pid = process_alive(&core->netns) ? core->netns.pid : 0;
    head->table_fd = core->table_fd;
    head->table = core->table;
    head->messages_dropped = core->messages_dropped;
    head->flags |= core->ready_once ? HANDOVER_READY_ONCE : 0;
    for (size_t i = 0; i < HANDOVER_ROLES; i++)
        save_process(roles[i], process++);
    for (uint32_t i = 0; i < kept.count; i++)
        save_template(kept.rows[i], head->flags, process++);
    LIST_EACH (revision, &all->revisions, struct core_revision, link)
        save_revision(revision, revisions++);
    LIST_EACH (replica, &all->replicas, struct core_replica, link)
        log = save_replica(core, &kept, replica, replicas++, log);
    LIST_EACH (replica, &all->dead, struct core_replica, link)
        log = save_replica(core, &kept, replica, replicas++, log);
    memcpy(out->used, core->used, core->used_count * sizeof *core->used);
    save_projects(all, out->projects);
}

/* ---- back ----------------------------------------------------------------------------------- */

static int load_process(struct core *core, struct core_process *to,
                        const struct handover_process *from, struct err *err)
{
    PROCESS_FIELDS(COPY, COPY_ARRAY)
    to->pid = from->pid;
    to->cloned = process_alive(to);
    if (from->due_ns)
        core_process_due(to, from->due_ns - env_now_ns(core->env));
    return process_alive(to) ? core->ops->restore(to, from->channel_fd, core->data, err) : 0;
}

static int load_processes(struct core *core, const struct handover *in, struct err *err)
{
    struct core_process *const roles[] = { core->gateways, core->gateways + 1, &core->agent,
                                           &core->control, &core->dns };
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < in->head->process_count; i++)
        r = load_process(core, i < HANDOVER_ROLES ? roles[i] : core_template_new(core),
                         &in->processes[i], err);
    return r;
}

static void load_revisions(struct core *core, const struct handover *in)
{
    for (uint32_t i = 0; i < in->head->revision_count; i++) {
        const struct handover_revision *from = &in->revisions[i];
        struct core_revision *to = mem_zalloc(sizeof *to);
        REVISION_FIELDS(COPY)
        list_append(&core->revisions, &to->link);
        core->revision_count++;
    }
}

static void load_projects(struct core *core, const struct handover *in)
{
    const struct handover_project *from = in->projects;
    struct core_process *template;
    struct core_revision *revision;
    if (!from)
        return;
    LIST_EACH (template, &core->templates, struct core_process, link)
        memcpy(template->project, from++->name, sizeof template->project);
    LIST_EACH (revision, &core->revisions, struct core_revision, link)
        memcpy(revision->project, from++->name, sizeof revision->project);
}

static void *row_of(struct list *list, int32_t row)
{
    struct list *at = list->next;
    for (; row > 0; row--)
        at = at->next;
    return at;
}

static const char *load_replica(struct core *core, const struct handover_replica *from,
                                const char *log, struct core_replica **ret)
{
    struct core_replica *to = *ret = mem_zalloc(sizeof *to);
    to->core = core;
    REPLICA_FIELDS(COPY, COPY_ARRAY)
    to->cgroup = from->cgroup;
    to->log.written = from->log_written;
    to->log.told = from->log_told;
    memcpy(to->log.bytes, log, from->log_bytes);
    return log + from->log_bytes;
}

static int load_replicas(struct core *core, const struct handover *in, struct err *err)
{
    const char *log = in->logs;
    for (uint32_t i = 0; i < in->head->replica_count + in->head->dead_count; i++) {
        const struct handover_replica *row = &in->replicas[i];
        struct core_replica *replica;
        log = load_replica(core, row, log, &replica);
        if (replica->state == REPLICA_DEAD) {
            list_append(&core->dead, &replica->link);
            core->dead_count++;
            continue;
        }
        list_append(&core->replicas, &replica->link);
        core->replica_count++;
        replica->template = LIST_OWNER(row_of(&core->templates, row->template - HANDOVER_ROLES),
                                       struct core_process, link);
        replica->revision =
            LIST_OWNER(row_of(&core->revisions, row->revision), struct core_revision, link);
        replica->revision->users++;
        if (replica->state == REPLICA_RUNNING) {
            int r = core->ops->adopt(replica, replica->pid, core->data, err);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

/* A region of another layout is left to the gateway that writes there: the next gets its own. */
static void load_metrics(struct core *core, int fd)
{
    struct gateway_region head;
    auto_close int unused = fd;
    if (pread(fd, &head, sizeof head, 0) != sizeof head || !gateway_region_fits(&head))
        return;
    fd_close(&core->metrics_fd);
    core->metrics_fd = take_fd(unused);
}

int core_load(struct core *core, const struct handover *in, struct err *err)
{
    core->gateway = in->head->gateway;
    core->generation = in->head->generation;
    core->table_fd = in->head->table_fd;
    core->table = in->head->table;
    core->messages_dropped = in->head->messages_dropped;
    core->ready_once = in->head->flags & HANDOVER_READY_ONCE;
    load_metrics(core, in->head->metrics_fd);
    fd_close(&core->dns_metrics_fd);
    core->dns_metrics_fd = in->head->dns_metrics_fd; /* the server sees whose table it is */
    core->used_count = in->head->used_count;
    memcpy(core->used, in->used, core->used_count * sizeof *core->used);
    load_revisions(core, in);
    int r = load_processes(core, in, err);
    if (r == 0)
        r = load_replicas(core, in, err);
    if (r < 0)
        return r;
    load_projects(core, in);
    core_templates_look(core);
    if (in->head->netns_pid) /* the agent asks for another */
        core->ops->end(in->head->netns_pid, core->data);
    core_orphans_kill(core); /* of a try that the program before had under way */
    return 0;
}
