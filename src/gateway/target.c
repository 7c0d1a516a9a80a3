/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/target.h"

#include <stdlib.h>

#include "base/auto.h"
#include "gateway/admit.h"
#include "gateway/core.h"
#include "gateway/queue.h"
#include "io/loop.h"

/* ---- the main thread ------------------------------------------------------------------------ */

struct target *target_ref(struct target *target)
{
    atomic_fetch_add_explicit(&target->refs, 1, memory_order_relaxed);
    return target;
}

void target_unref(struct target *target)
{
    if (target && atomic_fetch_sub_explicit(&target->refs, 1, memory_order_acq_rel) == 1)
        free(target);
}

void targets_forget(char *table)
{
    const struct table_head *head = (const struct table_head *)table;

    if (head->version < 5)
        return;
    struct table_target *rows = (struct table_target *)(table + head->targets.offset);
    for (uint32_t i = 0; i < head->revisions.count; i++) {
        const struct table_reach *reach = table_reach(head, i);
        bool is_upstream = reach->authority.bytes > 0;
        for (uint32_t k = 0; !is_upstream && k < reach->target_count; k++)
            rows[reach->target_first + k].flags &= ~TABLE_TARGET_READY;
    }
}

static struct target *target_get(struct gateway *gateway, const struct table_target *row)
{
    struct target *target = map_get_u64(&gateway->targets, row->id);

    if (target)
        return target;
    target = mem_zalloc(sizeof *target);
    target->id = row->id;
    target->kind = row->kind;
    target->gateway = gateway;
    atomic_init(&target->refs, 1);
    address_from_ip(&row->ip, (uint16_t)row->port, &target->address);
    for (unsigned i = 0; i < PERIGEE_LOOPS_MAX; i++) {
        target->sides[i].target = target;
        list_init(&target->sides[i].link);
    }
    (void)map_put_u64(&gateway->targets, target->id, target);
    return target;
}

struct target **targets_of_table(struct gateway *gateway, const struct table_head *head)
{
    uint32_t count = head->version < 5 ? 0 : head->targets.count;
    struct target **targets = mem_zalloc((count + 1) * sizeof(struct target *));

    MAP_EACH (entry, &gateway->targets) /* what no row names is not ready */
        ((struct target *)entry->value)->ready = false;
    for (uint32_t i = 0; head->version >= 5 && i < head->revisions.count; i++) {
        const struct table_reach *reach = table_reach(head, i);
        const struct table_target *rows = table_targets(head, reach);
        const struct table_endpoint *endpoint =
            table_endpoint(head, table_revision(head, i)->endpoint);
        for (uint32_t k = 0; k < reach->target_count; k++) {
            struct target *target = target_get(gateway, &rows[k]);
            atomic_store(&target->concurrency, endpoint->concurrency);
            target->ready = rows[k].flags & TABLE_TARGET_READY;
            if (!targets[reach->target_first + k]) /* rows that share one are the agent's error */
                targets[reach->target_first + k] = target_ref(target);
        }
    }
    return targets;
}

void targets_sweep(struct gateway *gateway)
{
    const struct table *table = gateway->table;

    if (!table || gateway->table_served != table->head->number)
        return;
    uint32_t count = table->head->version < 5 ? 0 : table->head->targets.count;
    MAP_EACH (entry, &gateway->targets) {
        struct target *target = entry->value;
        bool found = false;
        for (uint32_t i = 0; i < count && !found; i++)
            found = table->targets[i] == target;
        /* One whose end the agent waits for stays until that has been said. */
        if (found || atomic_load(&target->running) > 0 || atomic_load(&target->draining))
            continue;
        (void)map_remove_u64(&gateway->targets, target->id);
        target_unref(target);
    }
}

static void drained_tell(struct gateway *gateway, uint64_t id)
{
    union message message = { .as_MESSAGE_REPLICA_DRAINED = MESSAGE_INIT(MESSAGE_REPLICA_DRAINED) };

    message.as_MESSAGE_REPLICA_DRAINED.replica = id;
    (void)gateway_send_agent(gateway, &message);
}

bool target_drain(struct gateway *gateway, uint64_t id)
{
    struct target *target = map_get_u64(&gateway->targets, id);

    if (!target && gateway->beside)
        (void)map_put_u64(&gateway->drained_beside, id, gateway);
    if (!target)
        return gateway->beside;
    atomic_store(&target->draining, true);
    targets_drained(gateway);
    return true;
}

/* The word may be here before the table that it belongs to, and that table before a loop has taken
 * it: until then a request may still go there. What a gateway that ends beside us has there we do
 * not see: the agent waits for its end, or for as long as it would for any request. */
void targets_drained(struct gateway *gateway)
{
    bool taken = gateway->table && gateway->table_served == gateway->table->head->number;
    bool told = false;

    if (gateway->beside)
        return;
    MAP_EACH (entry, &gateway->targets) {
        struct target *target = entry->value;
        if (!taken || target->ready || !atomic_load(&target->draining) ||
            atomic_load(&target->running) > 0)
            continue;
        atomic_store(&target->draining, false);
        drained_tell(gateway, target->id);
        told = true;
    }
    if (told)
        targets_sweep(gateway);
}

void targets_alone(struct gateway *gateway)
{
    MAP_EACH (entry, &gateway->drained_beside)
        drained_tell(gateway, entry->key.size);
    map_deinit(&gateway->drained_beside);
    targets_drained(gateway);
}

static void on_given(void *data)
{
    targets_drained(data);
}

/* ---- a loop --------------------------------------------------------------------------------- */

static void side_clear(struct revision_side *side)
{
    while (!list_empty(&side->targets))
        list_remove(side->targets.next);
    side->lane_count = 0;
}

static void sides_clear(struct gateway_loop *gl, const struct table *table)
{
    for (uint32_t i = 0; table && i < table->head->revisions.count; i++)
        if (table_reach_http(table->head, i))
            side_clear(&table->revisions[i]->sides[gl->index]);
}

static void side_fill(struct gateway_loop *gl, const struct table *table, uint32_t row)
{
    const struct table_reach *reach = table_reach(table->head, row);
    const struct table_target *rows = table_targets(table->head, reach);
    struct revision_side *side = &table->revisions[row]->sides[gl->index];

    for (uint32_t k = 0; k < reach->target_count; k++) {
        struct target *target = table->targets[reach->target_first + k];
        if (!target || !(rows[k].flags & TABLE_TARGET_READY) ||
            !list_empty(&target->sides[gl->index].link))
            continue;
        list_append(&side->targets, &target->sides[gl->index].link);
        side->lane_count++;
    }
}

void targets_changed(struct gateway_loop *gl, struct table *old, struct table *now)
{
    sides_clear(gl, old);
    for (uint32_t i = 0; i < now->head->revisions.count; i++) {
        struct revision_side *side = &now->revisions[i]->sides[gl->index];
        if (!table_reach_http(now->head, i))
            continue;
        side_clear(side);
        side_fill(gl, now, i);
        if (side->lane_count > 0 && !side->was_ready)
            side->ready_since_ns = loop_now_ns();
        side->was_ready = side->lane_count > 0;
    }
}

static bool place_take_one(struct target *target)
{
    uint32_t most = atomic_load_explicit(&target->concurrency, memory_order_relaxed);

    uint32_t running = atomic_load(&target->running);

    while (running < most)
        if (atomic_compare_exchange_weak(&target->running, &running, running + 1))
            return true;
    return false;
}

static bool full(const struct target *target)
{
    return atomic_load(&target->running) >= atomic_load(&target->concurrency);
}

static bool better(const struct target_side *a, const struct target_side *b, int64_t now_ns)
{
    bool a_out = outlier_ejected(&a->outlier, now_ns), b_out = outlier_ejected(&b->outlier, now_ns);

    if (a_out != b_out)
        return b_out;
    return atomic_load(&a->target->running) < atomic_load(&b->target->running);
}

static struct target *best_of(struct revision_side *side, const struct target *but, int64_t now_ns)
{
    struct target_side *at, *best = NULL;

    LIST_EACH (at, &side->targets, struct target_side, link)
        if (at->target != but && !full(at->target) && (!best || better(at, best, now_ns)))
            best = at;
    return best ? best->target : NULL;
}

/* Few: all are looked at. The first goes to the end, so that equal ones take turns. Where another
 * loop took the last place first, the next best has one perhaps. */
static struct target *choose(struct revision_side *side, const struct target *but)
{
    bool several = side->lane_count > 1;
    int64_t now = several ? loop_now_ns() : 0;
    struct target *best;

    if (several) {
        struct list *first = side->targets.next;
        list_remove(first);
        list_append(&side->targets, first);
    }
    do
        best = best_of(side, but, now);
    while (best && !place_take_one(best));
    return best;
}

bool target_take(struct revision_side *side, struct queue_grant *ret)
{
    ret->lane = choose(side, NULL);
    return ret->lane != NULL;
}

struct target *target_take_other(struct revision_side *side, const struct target *but)
{
    return choose(side, but);
}

bool target_room(const struct revision_side *side)
{
    const struct target_side *at;

    LIST_EACH (at, &side->targets, struct target_side, link)
        if (!full(at->target))
            return true;
    return false;
}

void target_give(struct target *target, struct revision_side *side)
{
    if (atomic_fetch_sub(&target->running, 1) == 1 && atomic_load(&target->draining))
        loop_post(target->gateway->main, on_given, target->gateway);
    queue_serve(&side->queue);
}

uint32_t targets_running(const struct revision_side *side)
{
    const struct target_side *at;
    uint32_t running = 0;

    LIST_EACH (at, &side->targets, struct target_side, link)
        running += atomic_load(&at->target->running);
    return running;
}
