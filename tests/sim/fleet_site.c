/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PoP: its agent is the real one, between its channels; supervisor and processes are played. A
 * killed agent leaves what runs and what is on disk; without power only the disk is left.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dns/view.h"
#include "fleet.h"

#define BACK_NS (ENV_S) /* a supervisor starts a dead child after */

struct site *site_find(struct fleet *fleet, struct slice name)
{
    for (unsigned i = 0; i < SITES; i++)
        if (slice_is(name, fleet->sites[i].name))
            return &fleet->sites[i];
    return NULL;
}

unsigned site_ready(const struct site *site, uint64_t uid, uint64_t number)
{
    const struct list *link = &site->processes;
    unsigned count = 0;
    while ((link = link->next) != &site->processes) {
        const struct process *one = LIST_OWNER(link, const struct process, link);
        count += one->ready && !one->draining && one->revision >> 24 == uid &&
                 (!number || (one->revision & 0xffffff) == number);
    }
    return count;
}

/* ---- processes ------------------------------------------------------------------------------- */

static struct process *process_find(struct site *site, uint64_t id)
{
    struct process *one;
    LIST_EACH (one, &site->processes, struct process, link)
        if (one->id == id)
            return one;
    return NULL;
}

static void process_exit(struct process *one, uint32_t end)
{
    struct site *site = one->site;
    struct message_replica_exited exited = { .replica = one->id,
                                             .revision = one->revision,
                                             .end = end };
    snprintf(exited.text, sizeof exited.text, "it ended");
    list_remove(&one->link);
    free(one);
    if (site->agent)
        pop_replica_exited(&site->agent->pop, &exited);
}

/* Its own end, in times of trouble. */
static void on_process_dies(struct fleet *fleet, void *data, uint64_t id)
{
    struct process *one = process_find(data, id);
    if (one && fleet->chaos) {
        fleet->deaths++;
        process_exit(one, REPLICA_END_ITSELF);
    }
}

static void tell_ready(struct process *one)
{
    static const struct message_replica_walls walls = {};
    static struct perigee_model model;
    struct pop_ready ready = { .walls = &walls, .model = &model, .model_bytes = sizeof model };
    if (one->site->agent)
        pop_replica_ready(&one->site->agent->pop, one->id, &ready);
}

static void on_process_ready(struct fleet *fleet, void *data, uint64_t id)
{
    struct site *site = data;
    struct process *one = process_find(site, id);
    if (!one)
        return;
    if (fleet_maybe(fleet, 50)) {
        process_exit(one, REPLICA_END_ITSELF);
        return;
    }
    one->ready = true;
    if (fleet_maybe(fleet, 100))
        fleet_after(fleet, fleet_draw(fleet, 1, 60) * ENV_S, &site->power_life, on_process_dies,
                    site, id);
    tell_ready(one);
}

static void on_process_killed(struct fleet *, void *data, uint64_t id)
{
    struct process *one = process_find(data, id);
    if (one)
        process_exit(one, REPLICA_END_STOPPED);
}

static void on_drained(struct fleet *, void *data, uint64_t id)
{
    struct site *site = data;
    pop_replica_drained(&site->agent->pop, id);
}

static void on_replica_added(struct fleet *, void *data, uint64_t id)
{
    struct site *site = data;
    struct process *one = process_find(site, id);
    struct message_replica_added added = { .replica = id, .pid = 1 };
    if (!one)
        return;
    added.revision = one->revision;
    snprintf(added.name, sizeof added.name, "sim-%u", (unsigned)(id & 0xffff));
    pop_replica_added(&site->agent->pop, &added);
    if (one->ready)
        tell_ready(one);
}

/* ---- the agent's core: its effects ----------------------------------------------------------- */

static struct site *site_of(struct agent *agent)
{
    for (unsigned i = 0; i < SITES; i++)
        if (fleet_now->sites[i].agent == agent)
            return &fleet_now->sites[i];
    fail_msg("an agent of no PoP");
    return NULL;
}

/* What control's place in the world is, and what it may hold by the spec that its agent has. */
static void check_allowed(struct site *site, const struct pop_endpoint *endpoint)
{
    uint64_t version = version_of(&endpoint->spec);
    assert_true(version > 0 && version <= site->fleet->versions);
    assert_true(law_may_place(&site->fleet->laws[version], site->name, site->city));
}

static int do_start(struct pop_replica *replica, struct err *err, void *data)
{
    struct site *site = site_of(data);
    struct fleet *fleet = site->fleet;
    if (fleet_maybe(fleet, 20))
        return err_set(err, ERR_INTERNAL, "the model's folder is away");
    check_allowed(site, replica->revision->endpoint);
    struct process *one = mem_zalloc(sizeof *one);
    one->site = site;
    one->id = replica->id;
    one->revision = replica->revision->uid;
    list_append(&site->processes, &one->link);
    fleet_after(fleet, ENV_MS, &site->life, on_replica_added, site, one->id);
    fleet_after(fleet, fleet_draw(fleet, 200, 2000) * ENV_MS, &site->power_life, on_process_ready,
                site, one->id);
    return 0;
}

static void do_kill(struct pop_replica *replica, enum replica_end, const char *, void *data)
{
    struct site *site = site_of(data);
    fleet_after(site->fleet, fleet_draw(site->fleet, 1, 50) * ENV_MS, &site->power_life,
                on_process_killed, site, replica->id);
}

static void do_drain(struct pop_replica *replica, void *data)
{
    struct site *site = site_of(data);
    struct process *one = process_find(site, replica->id);
    if (one)
        one->draining = true;
    agent_publish_now(data);
    fleet_after(site->fleet, fleet_draw(site->fleet, 10, 500) * ENV_MS, &site->life, on_drained,
                site, replica->id);
}

static void do_unwanted(uint64_t replica, void *data)
{
    struct site *site = site_of(data);
    fleet_after(site->fleet, ENV_MS, &site->power_life, on_process_killed, site, replica);
}

static void do_look(struct pop_replica *replica, void *data)
{
    struct site *site = site_of(data);
    fleet_after(site->fleet, 0, &site->life, on_replica_added, site, replica->id);
}

static void on_fetched(struct fleet *fleet, void *data, uint64_t uid)
{
    struct site *site = data;
    struct pop_revision *revision = pop_revision_find(&site->agent->pop, uid);
    struct err err = {};
    if (!revision || revision->model_state != POP_MODEL_FETCHING)
        return;
    bool fails = fleet_maybe(fleet, 50);
    if (fails)
        (void)!err_set(&err, ERR_INTERNAL, "the disk is full");
    pop_model_fetched(revision, fails ? NULL : "/m", fails ? NULL : "f", fails ? &err : NULL);
}

static void do_fetch(struct pop_revision *revision, void *data)
{
    struct site *site = site_of(data);
    fleet_after(site->fleet, fleet_draw(site->fleet, 1, 3000) * ENV_MS, &site->life, on_fetched,
                site, revision->uid);
}

static void do_revision_gone(uint64_t, void *)
{
}

static void do_publish(struct pop *, void *data)
{
    struct agent *agent = data;
    agent->table_dirty = true;
    agent_publish_soon(agent);
}

static void do_save(struct pop *, void *data)
{
    struct agent *agent = data;
    agent->desired_dirty = true;
    agent_publish_soon(agent);
}

static void do_report(struct pop *, void *data)
{
    agent_report_soon(data);
}

static void do_event(struct pop *, const char *kind, const struct pop_endpoint *endpoint,
                     const struct pop_replica *replica, const char *message, void *data)
{
    agent_note_event(data, kind, endpoint, replica, message);
}

static void do_death(struct pop_endpoint *endpoint, const struct pop_death *death, void *data)
{
    agent_note_death(data, endpoint, death);
}

/* It keeps nothing of an endpoint beside what runs. */
static void do_barred(struct pop_endpoint *, void *)
{
}

static const struct pop_effects effects = {
    .replica_start = do_start,
    .replica_kill = do_kill,
    .replica_drain = do_drain,
    .replica_unwanted = do_unwanted,
    .replica_look = do_look,
    .model_fetch = do_fetch,
    .revision_gone = do_revision_gone,
    .publish = do_publish,
    .report = do_report,
    .save = do_save,
    .event = do_event,
    .death = do_death,
    .endpoint_barred = do_barred,
};

/* ---- the gateway's table --------------------------------------------------------------------- */

static void on_served(struct fleet *, void *data, uint64_t number)
{
    struct site *site = data;
    agent_table_served(site->agent, number);
}

void site_table_take(struct site *site, const void *bytes, size_t size)
{
    const struct table_head *head;
    dns_view_free(take_ptr(site->view));
    free(site->table.bytes);
    site->table.bytes = mem_alloc(size);
    site->table.size = size;
    memcpy(site->table.bytes, bytes, size);
    head = (const struct table_head *)(const void *)site->table.bytes;
    assert_true(head->number > site->table.number);
    site->table.number = head->number;
    for (int i = 0; i < ENDPOINTS; i++) {
        const struct pop_endpoint *endpoint;
        site->versions[i] = 0;
        LIST_EACH (endpoint, &site->agent->pop.endpoints, struct pop_endpoint, link)
            if (endpoint->wanted && strcmp(endpoint->name, site->fleet->wishes[i].name) == 0)
                site->versions[i] = version_of(&endpoint->spec);
    }
    fleet_after(site->fleet, fleet_draw(site->fleet, 1, 20) * ENV_MS, &site->life, on_served, site,
                head->number);
}

/* ---- its life -------------------------------------------------------------------------------- */

static void on_alone(struct env_timer *, void *data)
{
    struct agent *agent = data;
    pop_alone(&agent->pop);
}

static void on_saved(enum keep_what, void *)
{
}

static void agent_go(struct site *site)
{
    struct agent *agent = site->agent;
    struct process *one;
    LIST_EACH (one, &site->processes, struct process, link)
        on_replica_added(site->fleet, site, one->id);
    agent->gone = true;
    agent->pop.hearing = false;
    pop_gateway_changed(&agent->pop, true);
    env_timer_start(agent->env, &agent->alone, 10 * ENV_S, on_alone, agent);
    agent_watch_open(agent);
    pop_reconcile_soon(&agent->pop);
}

void site_boot(struct site *site)
{
    struct agent *agent = site->agent = mem_zalloc(sizeof *agent);
    struct err err = {};
    site->life++;
    site->fleet->boots++;
    agent->env = site->fleet->env;
    agent->client = (struct http_client *)(void *)site;
    agent->supervisor.agent = agent->gateway.agent = agent;
    list_init(&agent->notes);
    list_init(&agent->repository);
    pop_mesh_init(&agent->mesh);
    agent->start = (struct message_start)MESSAGE_INIT(MESSAGE_START);
    agent->start.instance = ++site->instance;
    snprintf(agent->start.pop, sizeof agent->start.pop, "%s", site->name);
    snprintf(agent->start.country, sizeof agent->start.country, "%s", site->city->country);
    snprintf(agent->start.zone, sizeof agent->start.zone, "perigee.test");
    snprintf(agent->start.home, sizeof agent->start.home, "%s", site->home);
    snprintf(agent->start.control, sizeof agent->start.control, "http://127.0.0.1:8080");
    snprintf(agent->bearer, sizeof agent->bearer, "Bearer %s", site->secret);
    assert_int_equal(http_url_parse(slice_of(agent->start.control), &agent->control, &err), 0);
    agent->note_sequence = site->instance << 32;
    pop_init(&agent->pop, agent->env, site->instance, &effects, agent);
    agent->pop.hearing = true;
    agent->pop.name = agent->start.pop;
    assert_int_equal(pop_stand(&agent->pop,
                               &(struct region_place){
                                   .name = slice_of(site->name),
                                   .country = country_number_of(slice_of(site->city->country)) },
                               (struct slice){}, &err),
                     0);
    keep_init(&agent->keep, &agent->pop, site->home);
    agent->keep.on_saved = on_saved;
    keep_load(&agent->keep);
    if (agent->keep.table_number < site->instance << 24)
        agent->keep.table_number = site->instance << 24;
    agent_go(site);
}

static bool disk_busy(const struct agent *agent)
{
    for (int i = 0; i < KEEP_FILES; i++)
        if (agent->keep.files[i].under_way)
            return true;
    return false;
}

static void agent_end(struct site *site)
{
    struct agent *agent = take_ptr(site->agent);
    site->life++;
    site_calls_drop(site);
    agent_report_close(agent);
    agent_watch_close(agent);
    agent_publish_close(agent);
    arena_free(agent->report_arena);
    env_timer_stop(agent->env, &agent->alone);
    keep_deinit(&agent->keep);
    pop_mesh_deinit(&agent->mesh);
    pop_deinit(&agent->pop);
    free(agent);
}

static void on_boot(struct fleet *, void *data, uint64_t)
{
    struct site *site = data;
    if (site->power && !site->agent && site->joined)
        site_boot(site);
}

/* What the disk is busy with would call nobody: a moment later nothing is (test_node.c has deaths
 * in the middle of a save). */
static void on_agent_kill(struct fleet *fleet, void *data, uint64_t then)
{
    struct site *site = data;
    if (!site->agent)
        return;
    if (disk_busy(site->agent)) {
        fleet_after(fleet, ENV_MS, &site->life, on_agent_kill, site, then);
        return;
    }
    agent_end(site);
    if (then)
        fleet_after(fleet, BACK_NS, &site->life, on_boot, site, 0);
}

void site_agent_kill(struct site *site)
{
    on_agent_kill(site->fleet, site, true);
}

static void processes_lose(struct site *site)
{
    site->power_life++;
    while (!list_empty(&site->processes)) {
        struct process *one = LIST_FIRST(&site->processes, struct process, link);
        list_remove(&one->link);
        free(one);
    }
    dns_view_free(take_ptr(site->view));
    free(take_ptr(site->table.bytes));
    site->table.size = 0;
    memset(site->heard, 0, sizeof site->heard);
    memset(site->queues, 0, sizeof site->queues);
}

static void on_power_off(struct fleet *fleet, void *data, uint64_t)
{
    struct site *site = data;
    if (site->agent && disk_busy(site->agent)) {
        fleet_after(fleet, ENV_MS, &site->life, on_power_off, site, 0);
        return;
    }
    site->power = false;
    processes_lose(site);
    if (site->agent)
        agent_end(site);
}

void site_power_off(struct site *site)
{
    if (site->power)
        on_power_off(site->fleet, site, 0);
}

void site_power_on(struct site *site)
{
    if (site->power)
        return;
    site->power = true;
    site_beats(site);
    fleet_after(site->fleet, BACK_NS, &site->life, on_boot, site, 0);
}

void site_end(struct site *site)
{
    site->power = false;
    processes_lose(site);
    if (site->agent)
        agent_end(site);
}
