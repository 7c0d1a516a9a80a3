/* SPDX-License-Identifier: Apache-2.0 */
/* What the core of the supervisor asks of the world: processes that come up, live and die. */
#include "node.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- the gateway ----------------------------------------------------------------------------- */

static void to_agent(struct node *node, const void *message, size_t size, bool may_double)
{
    for (int twice = 0; twice <= (may_double && node_maybe(node, 10)); twice++)
        message_send(node, TO_AGENT, ROLE_AGENT, message, size, -1);
}

static void gateway_says(struct node *node, uint16_t type, uint64_t replica)
{
    struct message_replica message = { .head = { MESSAGE_MAGIC, type, MESSAGE_VERSION },
                                       .replica = replica };
    to_agent(node, &message, sizeof message, true);
}

static void gateway_takes(struct node *node, struct slice bytes)
{
    struct err err;
    if (table_check(bytes, &err) < 0)
        fail_msg("%s", err.message);
    uint64_t number = ((const struct table_head *)(const void *)bytes.data)->number;
    if (number <= node->table_number && node->table)
        return; /* as the real one: none that is older than what it serves */
    free(node->table);
    node->table = mem_string(bytes);
    node->table_bytes = bytes.size;
    node->table_number = number;
    if (number > node->served_max)
        node->served_max = number;
}

/* Nothing is known of this life of the supervisor: what the disk has. */
void gateway_cold(struct node *node)
{
    struct arena *arena = arena_new();
    struct slice key, file, table;
    struct err err;
    if (env_file_read(node->env, "/home/pop/table.key", 64, arena, &key, &err) == 0 &&
        key.size == TABLE_KEY_BYTES &&
        env_file_read(node->env, "/home/pop/table", TABLE_BYTES_MAX, arena, &file, &err) == 0 &&
        table_open_file((const unsigned char *)key.data, file, &table, &err) == 0) {
        gateway_takes(node, table);
        assert_true(node->table_number >= node->table_kept);
    } else {
        assert_int_equal(node->table_kept, 0); /* it was on disk, and it is */
    }
    arena_free(arena);
}

void gateway_drained(struct node *node, const struct replica *replica)
{
    gateway_says(node, MESSAGE_REPLICA_DRAINED, replica->id);
}

static struct replica *replica_of(struct node *node, uint64_t id)
{
    struct replica *one;
    LIST_EACH (one, &node->replicas, struct replica, link)
        if (one->id == id)
            return one;
    return NULL;
}

static void gateway_reads(struct node *node, const struct letter *letter)
{
    const union message *message = &letter->message;
    struct message_empty ready = MESSAGE_INIT(MESSAGE_READY);
    struct replica *one = replica_of(node, message->as_MESSAGE_REPLICA_DRAIN.replica);
    switch (message->head.type) {
    case MESSAGE_TABLE_NEW: {
        uint64_t bytes = message->as_MESSAGE_TABLE_NEW.bytes;
        auto_free char *data = mem_alloc(bytes);
        assert_int_equal(pread(letter->fd, data, bytes, 0), bytes);
        gateway_takes(node, (struct slice){ data, bytes });
        break;
    }
    case MESSAGE_REPLICA_ADDED:
        one = replica_of(node, message->as_MESSAGE_REPLICA_ADDED.replica);
        if (one)
            one->gateway_has = true;
        if (one && one->is_ready)
            gateway_says(node, MESSAGE_REPLICA_READY, one->id);
        break;
    case MESSAGE_REPLICA_DRAIN:
        if (one && one->gateway_has && !one->draining) {
            one->draining = true;
            if (!requests_on(node, one))
                gateway_drained(node, one);
        }
        break;
    case MESSAGE_PEER: /* as the real one: a new agent knows of none that an earlier one drained */
        LIST_EACH (one, &node->replicas, struct replica, link)
            if (one->gateway_has && one->draining && !requests_on(node, one))
                gateway_drained(node, one);
        break;
    case MESSAGE_GO:
        if (!node->table)
            gateway_cold(node);
        /* Of a gateway's death nobody hears: the next serves no older table. */
        assert_true(node->table_number >= node->served_max);
        message_send(node, TO_SUPERVISOR, ROLE_GATEWAY, &ready, sizeof ready, -1);
        break;
    default:
        break;
    }
}

/* ---- the supervisor's world ------------------------------------------------------------------ */

void role_ended(struct node *node, uint32_t role)
{
    struct role *one = &node->roles[role];
    struct replica *replica;
    if (!one->alive)
        return;
    one->alive = false;
    one->died_ns = env_now_ns(node->env);
    node->deaths++;
    env_timer_stop(node->env, &one->up);
    env_timer_stop(node->env, &one->death);
    if (role == ROLE_AGENT)
        agent_ended(node);
    if (role == ROLE_CONTROL) {
        control_crash(node);
        watch_cut(node);
    }
    if (role == ROLE_GATEWAY) {
        free(take_ptr(node->table));
        node->table_number = 0;
        requests_again(node, NULL);
        if (node->agent_begun)
            pop_gateway_changed(&node->pop, false);
        LIST_EACH (replica, &node->replicas, struct replica, link)
            replica->gateway_has = replica->draining = false;
    }
}

void role_dies(struct env_timer *, void *data)
{
    struct role *role = data;
    struct node *node = role->node;
    role_ended(node, role->process->role);
    core_process_exited(role->process, SIGKILL);
}

static void on_role_up(struct env_timer *, void *data)
{
    struct role *role = data;
    struct node *node = role->node;
    struct message_empty ready = MESSAGE_INIT(MESSAGE_READY);
    struct perigee_hello hello = { PERIGEE_WORKER_MAGIC, PERIGEE_HELLO, 1, 1, "onnx", "a library" };
    if (role->process->role == ROLE_TEMPLATE) {
        core_template_message(role->process, &hello, sizeof hello);
    } else { /* control: agent and gateway are ready once they have read what they are told */
        control_open_store(node);
        control_check(node);
        core_message(role->process, (union message *)&ready, sizeof ready, NULL, 0);
    }
}

static int op_start(struct core_process *process, void *data, struct err *err)
{
    struct node *node = data;
    struct role *role = &node->roles[process->role];
    if (node_maybe(node, 3))
        return err_set(err, ERR_INTERNAL, "no process to be had");
    role->node = node;
    role->process = process;
    role->life++;
    role->alive = true;
    process->pid = ++node->pid;
    if (process->role == ROLE_TEMPLATE || process->role == ROLE_CONTROL)
        env_timer_start(node->env, &role->up, node_draw(node, 1, 300) * ENV_MS, on_role_up, role);
    if (node_maybe(node, 20)) /* it dies early */
        env_timer_start(node->env, &role->death, node_draw(node, 0, 400) * ENV_MS, role_dies, role);
    return 0;
}

static void op_kill(struct core_process *process, void *data)
{
    struct role *role = &((struct node *)data)->roles[process->role];
    if (role->alive)
        env_timer_start(role->node->env, &role->death, ENV_MS, role_dies, role);
}

static void op_send(struct core_process *process, const void *bytes, size_t size, const int *fds,
                    size_t fd_count, void *data)
{
    struct node *node = data;
    const struct perigee_clone *clone = bytes;
    if (process->role == ROLE_TEMPLATE) {
        struct letter *letter =
            letter_new(node, TO_TEMPLATE, ROLE_TEMPLATE, node_draw(node, 1, 20) * ENV_MS);
        letter->id = clone->replica;
    } else if (((const union message *)bytes)->head.type == MESSAGE_DRAIN) {
        op_kill(process, data);
    } else if (process->role == ROLE_AGENT || process->role == ROLE_GATEWAY) {
        message_send(node, process->role == ROLE_AGENT ? TO_AGENT : TO_GATEWAY, process->role,
                     bytes, size, fd_count ? fds[0] : -1);
    }
}

static bool op_writable(struct core_process *, void *)
{
    return true;
}

void replica_end(struct replica *replica)
{
    struct node *node = replica->node;
    struct core_replica *core = replica->core;
    struct rusage usage = {};
    env_timer_stop(node->env, &replica->ready);
    env_timer_stop(node->env, &replica->death);
    requests_again(node, replica);
    list_remove(&replica->link);
    free(replica);
    if (core)
        core_replica_exited(core, SIGKILL, &usage);
}

static void on_replica_death(struct env_timer *, void *data)
{
    replica_end(data);
}

static void on_replica_ready(struct env_timer *, void *data)
{
    struct replica *replica = data;
    replica->is_ready = true;
    if (replica->gateway_has && replica->node->roles[ROLE_GATEWAY].alive)
        gateway_says(replica->node, MESSAGE_REPLICA_READY, replica->id);
}

static enum perigee_group op_group(struct core_replica *, int *, uint32_t *, void *)
{
    return PERIGEE_GROUP_NONE;
}

static void op_ungroup(struct core_replica *, void *)
{
}

/* A large model, or a busy disk: up to a minute, where half of it is waited for. */
static int64_t start_ns(struct node *node)
{
    if (!node->slow_starts || !node_maybe(node, 25))
        return node_draw(node, 1, 200) * ENV_MS;
    node->slow++;
    return (node_maybe(node, 25) ? node_draw(node, 20, 60) : node_draw(node, 1, 10)) * ENV_S;
}

static int op_adopt(struct core_replica *core, pid_t, void *data, struct err *err)
{
    struct node *node = data;
    if (node_maybe(node, 1))
        return err_set(err, ERR_NOT_FOUND, "no such child");
    struct replica *replica = mem_zalloc(sizeof *replica);
    replica->node = node;
    replica->core = core;
    replica->id = core_replica_id(core);
    replica->revision = (uint64_t)map_get_u64(&node->asked, replica->id);
    list_append(&node->replicas, &replica->link);
    core_replica_set_shell(core, replica);
    if (node_maybe(node, 10)) /* its model cannot be loaded */
        env_timer_start(node->env, &replica->death, node_draw(node, 1, 50) * ENV_MS,
                        on_replica_death, replica);
    else
        env_timer_start(node->env, &replica->ready, start_ns(node), on_replica_ready, replica);
    return 0;
}

static void op_kill_replica(struct core_replica *core, void *data)
{
    struct node *node = data;
    struct replica *replica = core_replica_shell(core);
    env_timer_start(node->env, &replica->death, ENV_MS, on_replica_death, replica);
}

static int op_look(pid_t, const struct walls_expected *, uint32_t *ret_walls, void *, struct err *)
{
    *ret_walls = 0;
    return 0;
}

static void op_orphans(void *)
{
}

static void op_ready(void *)
{
}

static void op_ended(void *data)
{
    ((struct node *)data)->ended++;
}

const struct core_ops node_ops = {
    .start = op_start,
    .kill = op_kill,
    .send = op_send,
    .writable = op_writable,
    .group = op_group,
    .ungroup = op_ungroup,
    .adopt = op_adopt,
    .kill_replica = op_kill_replica,
    .look = op_look,
    .kill_orphans = op_orphans,
    .on_ready = op_ready,
    .on_ended = op_ended,
};

static void template_reads(struct node *node, const struct letter *letter)
{
    struct perigee_cloned cloned = { PERIGEE_WORKER_MAGIC, PERIGEE_CLONED, letter->id,
                                     node_maybe(node, 2) ? -1 : ++node->pid, 0 };
    core_template_message(node->roles[ROLE_TEMPLATE].process, &cloned, sizeof cloned);
}

void letter_read(struct letter *letter)
{
    struct node *node = letter->node;
    switch (letter->to) {
    case TO_SUPERVISOR:
        if (letter->message.head.type == MESSAGE_REPLICA_START)
            (void)map_put_u64(&node->asked, letter->message.as_MESSAGE_REPLICA_START.replica,
                              (void *)letter->message.as_MESSAGE_REPLICA_START.revision);
        core_message(node->roles[letter->role].process, &letter->message, letter->size, &letter->fd,
                     letter->fd >= 0);
        break;
    case TO_AGENT:
        agent_reads(node, &letter->message);
        break;
    case TO_GATEWAY:
        gateway_reads(node, letter);
        break;
    case TO_TEMPLATE:
        template_reads(node, letter);
        break;
    case FROM_CONTROL:
        watch_reads(node, letter);
        break;
    case TO_SELF:
        agent_hears_itself(node, letter);
        break;
    }
}
