/* SPDX-License-Identifier: Apache-2.0 */
/* The agent: its core is the real one, and what it keeps; the shell around them is played. */
#include "node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sys/shm.h"

/* ---- the agent: its core's effects ----------------------------------------------------------- */

static void to_supervisor(struct node *node, const void *message, size_t size, int fd)
{
    message_send(node, TO_SUPERVISOR, ROLE_AGENT, message, size, fd);
}

static void publish_now(struct node *node)
{
    struct arena *arena = arena_new();
    struct err err;
    struct slice table;
    if (!node->gone || !node->pop.sure)
        goto out;
    if (node->table_dirty) {
        int fd;
        node->table_dirty = false;
        assert_int_equal(pop_table_make(&node->pop, &node->start, ++node->keep.table_number, arena,
                                        &table, &err),
                         0);
        assert_int_equal(shm_publish("sim", table.data, table.size, &fd, &err), 0);
        struct message_table message = MESSAGE_INIT(MESSAGE_TABLE_NEW);
        message.number = node->keep.table_number;
        message.bytes = table.size;
        to_supervisor(node, &message, sizeof message, fd);
        close(fd);
        keep_table(&node->keep, table);
    }
    if (node->desired_dirty) {
        node->desired_dirty = false;
        node->desired_newer = true;
        keep_desired(&node->keep);
    }
out:
    arena_free(arena);
}

static void on_publish(struct env_timer *, void *data)
{
    publish_now(data);
}

static void publish_soon(struct node *node)
{
    if (!env_timer_armed(&node->publish_timer))
        env_timer_start(node->env, &node->publish_timer, ENV_MS, on_publish, node);
}

static int do_start(struct pop_replica *replica, struct err *err, void *data)
{
    struct node *node = data;
    struct message_replica_start start = MESSAGE_INIT(MESSAGE_REPLICA_START);
    if (node_maybe(node, 2))
        return err_set(err, ERR_INTERNAL, "the model's folder is away");
    start.replica = replica->id;
    start.revision = replica->revision->uid;
    start.slot_bytes = 64 * 1024;
    start.slots = 4;
    start.concurrency = start.threads = start.batch_max = 1;
    snprintf(start.runtime, sizeof start.runtime, "onnx");
    pop_replica_name(replica, start.name);
    to_supervisor(node, &start, sizeof start, node->null_fd);
    return 0;
}

static void kill_message(struct node *node, uint64_t replica, uint32_t end, const char *text)
{
    struct message_replica_kill kill = MESSAGE_INIT(MESSAGE_REPLICA_KILL);
    kill.replica = replica;
    kill.end = end;
    snprintf(kill.text, sizeof kill.text, "%s", text);
    to_supervisor(node, &kill, sizeof kill, -1);
}

static void do_kill(struct pop_replica *replica, enum replica_end end, const char *text, void *data)
{
    struct node *node = data;
    node->overdue += end == REPLICA_END_NOT_STARTED;
    kill_message(node, replica->id, end, text);
}

static void do_drain(struct pop_replica *replica, void *data)
{
    struct node *node = data;
    struct message_replica drain = MESSAGE_INIT(MESSAGE_REPLICA_DRAIN);
    publish_now(node);
    drain.replica = replica->id;
    message_send(node, TO_GATEWAY, ROLE_GATEWAY, &drain, sizeof drain, -1);
}

/* Nothing that its users want is killed as unknown, whatever the agent could not read. */
static void do_unwanted(uint64_t replica, void *data)
{
    struct node *node = data;
    struct replica *one;
    LIST_EACH (one, &node->replicas, struct replica, link)
        for (int i = 0; i < ENDPOINTS && one->id == replica; i++)
            assert_false(node->acked[i].there && node->acked[i].uid == one->revision >> 24 &&
                         (one->revision & 0xffffff) == node->acked[i].target);
    node->killed_unwanted++;
    kill_message(node, replica, REPLICA_END_UNWANTED, "");
}

static struct letter *to_self(struct node *node, uint32_t what, uint64_t id, int64_t delay_ns)
{
    struct letter *letter = letter_new(node, TO_SELF, ROLE_AGENT, delay_ns);
    letter->what = what;
    letter->id = id;
    return letter;
}

static void do_look(struct pop_replica *replica, void *data)
{
    to_self(data, SELF_LOOK, replica->id, 0);
}

static void do_fetch(struct pop_revision *revision, void *data)
{
    to_self(data, SELF_FETCHED, revision->uid, node_draw(data, 0, 20) * ENV_MS);
}

static void do_revision_gone(uint64_t revision, void *data)
{
    struct message_revision gone = MESSAGE_INIT(MESSAGE_REVISION_GONE);
    gone.revision = revision;
    to_supervisor(data, &gone, sizeof gone, -1);
}

void agent_publishes(struct pop *, void *data)
{
    ((struct node *)data)->table_dirty = true;
    publish_soon(data);
}

static void do_save(struct pop *, void *data)
{
    ((struct node *)data)->desired_dirty = true;
    publish_soon(data);
}

static void do_report(struct pop *, void *)
{
}

static void do_event(struct pop *, const char *, const struct pop_endpoint *,
                     const struct pop_replica *, const char *, void *)
{
}

static void do_death(struct pop_endpoint *, const struct pop_death *death, void *)
{
    assert_true(death->reason[0] != '\0');
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
    .publish = agent_publishes,
    .report = do_report,
    .save = do_save,
    .event = do_event,
    .death = do_death,
    .endpoint_barred = do_barred,
};

/* ---- the agent: what it hears ---------------------------------------------------------------- */

static void agent_ready(struct node *node, uint64_t id)
{
    static const struct message_replica_walls walls = {};
    static struct perigee_model model;
    struct pop_ready ready = { .walls = &walls, .model = &model, .model_bytes = sizeof model };
    pop_replica_ready(&node->pop, id, &ready);
}

static void agent_look(struct node *node, uint64_t id)
{
    const struct replica *one;
    LIST_EACH (one, &node->replicas, struct replica, link)
        if (one->id == id && one->is_ready)
            agent_ready(node, id);
}

static void on_kept(enum keep_what what, void *data)
{
    struct node *node = data;
    struct arena *arena = arena_new();
    struct slice bytes;
    if (what == KEEP_TABLE)
        node->table_kept = node->keep.table_number;
    if (what == KEEP_DESIRED &&
        env_file_read(node->env, "/home/pop/desired.json", 1 << 20, arena, &bytes, NULL) == 0) {
        free(node->desired_kept);
        node->desired_kept = mem_string(bytes);
        node->desired_newer = node->desired_dirty;
    }
    arena_free(arena);
}

/* What was said to be on disk is there, or something newer; never half of anything. */
void agent_check_disk(struct node *node)
{
    struct arena *arena = arena_new();
    struct slice bytes;
    int r = env_file_read(node->env, "/home/pop/desired.json", 1 << 20, arena, &bytes, NULL);
    if (r == 0 && node->desired_kept && !node->desired_newer)
        assert_true(slice_is(bytes, node->desired_kept));
    if (r == 0)
        assert_true(slice_ends(bytes, SLICE("]}\n")));
    assert_true(r != ERR_NOT_FOUND || !node->desired_kept);
    arena_free(arena);
}

static void agent_begin(struct node *node, const struct message_start *start)
{
    node->start = *start;
    node->agent_begun = true;
    agent_check_disk(node);
    pop_init(&node->pop, node->env, start->instance, &effects, node);
    node->pop.era = start->started_ns;
    node->pop.hearing = true;
    memset(&node->keep, 0, sizeof node->keep);
    keep_init(&node->keep, &node->pop, "/home");
    node->keep.on_saved = on_kept;
    node->keep.data = node;
    keep_load(&node->keep);
    if (node->keep.table_number < start->instance << 24)
        node->keep.table_number = start->instance << 24;
}

static void on_alone(struct env_timer *, void *data)
{
    pop_alone(&((struct node *)data)->pop);
}

static void agent_go(struct node *node)
{
    struct message_empty ready = MESSAGE_INIT(MESSAGE_READY);
    node->gone = true;
    node->pop.hearing = false;
    env_timer_start(node->env, &node->alone, 10 * ENV_S, on_alone, node);
    watch_open(node);
    pop_reconcile_soon(&node->pop);
    to_supervisor(node, &ready, sizeof ready, -1);
}

void agent_reads(struct node *node, const union message *message)
{
    switch (message->head.type) {
    case MESSAGE_START:
        agent_begin(node, &message->as_MESSAGE_START);
        break;
    case MESSAGE_PEER:
        pop_gateway_changed(&node->pop, true);
        break;
    case MESSAGE_GO:
        agent_go(node);
        break;
    case MESSAGE_REPLICA_ADDED:
        pop_replica_added(&node->pop, &message->as_MESSAGE_REPLICA_ADDED);
        agent_look(node, message->as_MESSAGE_REPLICA_ADDED.replica);
        break;
    case MESSAGE_REPLICA_EXITED:
        pop_replica_exited(&node->pop, &message->as_MESSAGE_REPLICA_EXITED);
        break;
    case MESSAGE_REPLICA_READY:
        if (node->agent_begun)
            agent_ready(node, message->as_MESSAGE_REPLICA_READY.replica);
        break;
    case MESSAGE_DEMAND:
        if (node->agent_begun)
            pop_demand(&node->pop, &message->as_MESSAGE_DEMAND);
        break;
    case MESSAGE_REPLICA_DRAINED:
        if (node->agent_begun)
            pop_replica_drained(&node->pop, message->as_MESSAGE_REPLICA_DRAINED.replica);
        break;
    default:
        break;
    }
}

void agent_ended(struct node *node)
{
    env_timer_stop(node->env, &node->publish_timer);
    env_timer_stop(node->env, &node->alone);
    env_timer_stop(node->env, &node->watch_again);
    world_saves_lose(node->world);
    if (node->agent_begun) {
        keep_deinit(&node->keep);
        pop_deinit(&node->pop);
    }
    node->agent_begun = node->gone = node->table_dirty = node->desired_dirty = false;
    node->watch = 0;
}

void agent_hears_itself(struct node *node, const struct letter *letter)
{
    struct pop_revision *revision;
    struct err err = {};
    if (!node->agent_begun)
        return;
    if (letter->what == SELF_LOOK) {
        agent_look(node, letter->id);
        return;
    }
    revision = pop_revision_find(&node->pop, letter->id);
    if (!revision || revision->model_state != POP_MODEL_FETCHING)
        return;
    bool fails = node_maybe(node, 5);
    if (fails)
        (void)!err_set(&err, ERR_INTERNAL, "the disk is full");
    pop_model_fetched(revision, fails ? NULL : "/m", fails ? NULL : "f", fails ? &err : NULL);
}
