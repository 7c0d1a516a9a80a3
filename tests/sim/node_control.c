/* SPDX-License-Identifier: Apache-2.0 */
/* Control: its store is the real one, on a disk of its own; the watch is played. */
#include "node.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- control: the store ---------------------------------------------------------------------- */

static void document_write(const struct wish *wish, char text[static TEXT_BYTES])
{
    size_t used = (size_t)snprintf(
        text, TEXT_BYTES,
        "{\"uid\":%llu,\"name\":\"e%llu\",\"state\":\"%s\",\"target\":%u,\"spec\":"
        "{\"name\":\"sim-e\","
        "\"model\":\"sha256:%064d\",\"scale\":{\"min\":%u,\"max\":%d,\"idle\":\"20s\"},"
        "\"queue\":{\"cold\":\"30s\"}},"
        "\"revisions\":[",
        (unsigned long long)wish->uid, (unsigned long long)wish->uid,
        wish->running ? "running" : "stopped", wish->target, 1, wish->min, MIN_MAX);
    for (unsigned i = 1; i <= wish->revisions; i++)
        used += (size_t)snprintf(text + used, TEXT_BYTES - used,
                                 "%s{\"number\":%u,\"uid\":%llu,\"model\":\"sha256:%064u\"}",
                                 i > 1 ? "," : "", i, (unsigned long long)(wish->uid << 24 | i), i);
    snprintf(text + used, TEXT_BYTES - used, "]}");
}

/* One endpoint as its row: what a wish is made of stands in its columns. */
static struct store_endpoint row_of(const struct wish *wish, const char *name, const char *text)
{
    return (struct store_endpoint){ .uid = wish->uid,
                                    .project = SLICE("default"),
                                    .name = slice_of(name),
                                    .spec = slice_of(text),
                                    .stopped = !wish->running,
                                    .target = wish->target,
                                    .latest = wish->revisions,
                                    .serving = wish->min,
                                    .generation = wish->generation };
}

struct change {
    struct wish *wish;
    uint64_t before;
    const char *name;
};

static int change_run(struct store *store, void *data, struct err *err)
{
    struct change *change = data;
    struct wish *wish = change->wish;
    char text[TEXT_BYTES];
    document_write(wish, text);
    struct store_endpoint row = row_of(wish, change->name, text);
    int r = store->project_ensure(store, SLICE("default"), 1, err);
    if (r < 0)
        return r;
    if (!wish->there)
        return store->endpoint_delete(store, wish->uid, err);
    if (wish->uid)
        return store->endpoint_update(store, &row, change->before, err);
    r = store->endpoint_add(store, &row, err);
    wish->uid = row.uid;
    return r;
}

void control_open_store(struct node *node)
{
    struct err err;
    if (store_sqlite_open(node->path, STORE_WRITE, NULL, &node->store, &err) < 0)
        fail_msg("%s", err.message);
}

static bool is_state(const struct store_endpoint *rows, size_t count, const struct wish *wishes)
{
    size_t wanted = 0, same = 0;
    for (int i = 0; i < ENDPOINTS; i++) {
        const struct wish *wish = &wishes[i];
        wanted += wish->there;
        for (size_t k = 0; k < count; k++)
            same += wish->there && rows[k].uid == wish->uid &&
                    rows[k].generation == wish->generation && rows[k].target == wish->target &&
                    rows[k].serving == (wish->generation > 1 ? wish->min : 0) &&
                    rows[k].stopped == !wish->running;
    }
    return count == wanted && same == wanted;
}

/* As control finds it after a kill: what users were told, and nothing else. */
void control_check(struct node *node)
{
    struct arena *arena = arena_new();
    struct store_page page = {};
    struct store_endpoint *rows;
    struct wish other[ENDPOINTS];
    struct err err;
    size_t count;
    assert_int_equal(node->store->endpoint_list(node->store, &page, arena, &rows, &count, &err), 0);
    bool good = is_state(rows, count, node->acked);
    for (unsigned i = 0; i < node->doubt_count && !good; i++) {
        memcpy(other, node->acked, sizeof other);
        other[node->doubts_of[i]] = node->doubts[i];
        good = is_state(rows, count, other);
        if (good)
            memcpy(node->acked, other, sizeof other);
    }
    assert_true(good);
    node->doubt_count = 0;
    arena_free(arena);
}

/* The process is killed: what the kernel has of its files is all that there is. */
void control_crash(struct node *node)
{
    char next[FAULT_FOLDER_BYTES], from[128], to[128];
    if (!node->store)
        return;
    folder_make(next);
    snprintf(from, sizeof from, "%s/state", node->folder);
    snprintf(to, sizeof to, "%s/state", next);
    folder_copy(from, to);
    node->store->close(take_ptr(node->store));
    folder_remove(node->folder);
    memcpy(node->folder, next, sizeof next);
    snprintf(node->path, sizeof node->path, "%s/store.db", to);
    node->crashes++;
}

/* ---- control: the watch ---------------------------------------------------------------------- */

static void tell(struct node *node, uint32_t what, const struct wish *wish)
{
    struct letter *letter =
        letter_new(node, FROM_CONTROL, ROLE_AGENT, node_draw(node, 1, 30) * ENV_MS);
    letter->what = what;
    letter->id = wish ? wish->uid : 0;
    if (what == SELF_ENDPOINT)
        document_write(wish, letter->text);
    for (int i = 0; i < ENDPOINTS && what == SELF_SYNCED; i++)
        if (node->acked[i].there)
            letter->uids[letter->uid_count++] = node->acked[i].uid;
}

static void on_watch_again(struct env_timer *, void *data)
{
    watch_open(data);
}

void watch_open(struct node *node)
{
    const struct role *control = &node->roles[ROLE_CONTROL];
    node->watch = 0;
    if (!control->alive || control->process->state != PROCESS_SERVING || !node->store) {
        env_timer_start(node->env, &node->watch_again, 100 * ENV_MS, on_watch_again, node);
        return;
    }
    node->watch = ++node->watches;
    for (int i = 0; i < ENDPOINTS; i++)
        if (node->acked[i].there)
            tell(node, SELF_ENDPOINT, &node->acked[i]);
    tell(node, SELF_SYNCED, NULL);
}

void watch_cut(struct node *node)
{
    if (!node->watch)
        return;
    node->watch = 0; /* what is under way is lost */
    env_timer_start(node->env, &node->watch_again, node_draw(node, 1, 200) * ENV_MS, on_watch_again,
                    node);
}

void watch_reads(struct node *node, const struct letter *letter)
{
    struct err err = {};
    if (letter->watch != node->watch || !node->agent_begun)
        return;
    if (letter->what == SELF_GONE)
        pop_endpoint_gone(&node->pop, letter->id);
    else if (letter->what == SELF_SYNCED)
        pop_sync(&node->pop, letter->uids, letter->uid_count);
    else if (pop_endpoint_apply(&node->pop, slice_of(letter->text), &err) < 0)
        fail_msg("%s", err.message);
    if (letter->what == SELF_SYNCED)
        agent_publishes(&node->pop, node);
}

/* A user changes an endpoint. Told that it is done, it is; told that it failed, nothing is. */
void user_changes(struct node *node)
{
    static const char *const names[ENDPOINTS] = { "e1", "e2" };
    const struct role *control = &node->roles[ROLE_CONTROL];
    int which = (int)node_draw(node, 0, ENDPOINTS - 1);
    struct wish wish = node->acked[which];
    struct err err = {};
    if (!control->alive || control->process->state != PROCESS_SERVING || !node->store)
        return;
    struct change change = { &wish, wish.generation, names[which] };
    if (!wish.there) {
        wish = (struct wish){
            .there = true, .running = true, .min = 1, .target = 1, .revisions = 1, .generation = 1
        };
    } else {
        unsigned dice = (unsigned)node_draw(node, 0, 9);
        wish.there = dice != 0;
        wish.running = dice == 1 ? !wish.running : wish.running || dice > 6;
        wish.min = (unsigned)node_draw(node, node->chaos ? 0 : 1, MIN_MAX);
        if (dice > 3 && wish.revisions < 6)
            wish.target = ++wish.revisions;
        else
            wish.target = (unsigned)node_draw(node, 1, wish.revisions);
        wish.generation++;
    }
    bool fault = node_maybe(node, 20);
    if (fault)
        faults_arm(node_draw(node, 0, 1) ? FAULT_WRITE : FAULT_SYNC, node_draw(node, 1, 6),
                   node_draw(node, 0, 1) ? FAULT_ONCE : FAULT_STAYS, EIO);
    int r = node->store->transact(node->store, change_run, &change, &err);
    if (fault)
        (void)faults_end();
    if (r < 0) {
        assert_true(fault);
        node->refused++;
        assert_true(node->doubt_count < DOUBTS);
        node->doubts[node->doubt_count] = wish;
        node->doubts_of[node->doubt_count++] = which;
        if (node->store->in_doubt) /* control begins anew from what is there (control_anew()) */
            role_dies(NULL, &node->roles[ROLE_CONTROL]);
        return;
    }
    node->doubt_count = 0;
    node->acked[which] = wish;
    node->changes++;
    for (int twice = 0; twice <= node_maybe(node, 20) && node->watch; twice++)
        tell(node, wish.there ? SELF_ENDPOINT : SELF_GONE, &wish);
}
