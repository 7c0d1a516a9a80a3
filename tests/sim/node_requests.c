/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests at the played gateway: they wait in its queue until a replica that it may give them to
 * is there, and go to another where that dies. Where the gateway dies their clients ask the next
 * one. A request ends with an answer, or with its endpoint, or with the table's word that its
 * revision does not serve: which is never said of one that has served.
 */
#include "node.h"

enum { TICK_MS = 50, TOLD_TICKS = 5, PLACES = 4, COME_MAX = 12 };

static bool gateway_serves(const struct node *node)
{
    const struct role *gateway = &node->roles[ROLE_GATEWAY];
    return gateway->alive && gateway->process->state == PROCESS_SERVING && node->table;
}

static const struct wish *wish_of(const struct node *node, uint64_t uid)
{
    for (int i = 0; i < ENDPOINTS; i++)
        if (node->acked[i].there && node->acked[i].uid == uid)
            return &node->acked[i];
    return NULL;
}

/* The uid of the revision that has the traffic, or, before one has, of the one that is to. */
static uint64_t revision_of(const struct node *node, uint64_t uid)
{
    const struct table_head *table = (const struct table_head *)(const void *)node->table;
    for (uint32_t i = 0; i < table->endpoints.count; i++) {
        const struct table_endpoint *row = table_endpoint(table, i);
        if (row->uid == uid && row->serving != TABLE_NONE)
            return table_revision(table, row->serving)->uid;
    }
    const struct wish *wish = wish_of(node, uid);
    return wish ? uid << 24 | wish->target : 0;
}

static unsigned running_at(const struct node *node, const struct replica *replica)
{
    unsigned count = 0;
    for (unsigned i = 0; i < REQUESTS_MAX; i++)
        count += node->requests[i].uid && node->requests[i].at == replica;
    return count;
}

bool requests_on(const struct node *node, const struct replica *replica)
{
    return running_at(node, replica) > 0;
}

static void begin(struct node *node, struct request *request)
{
    uint64_t revision = revision_of(node, request->uid);
    struct replica *one;
    LIST_EACH (one, &node->replicas, struct replica, link) {
        if (one->revision != revision || !one->is_ready || !one->gateway_has || one->draining ||
            running_at(node, one) >= PLACES)
            continue;
        request->at = one;
        request->began_ns = env_now_ns(node->env);
        request->ends_ns = request->began_ns + node_draw(node, 5, 400) * ENV_MS;
        return;
    }
}

static struct demand *demand_of(struct node *node, uint64_t uid)
{
    for (int i = 0; i < ENDPOINTS; i++)
        if (node->acked[i].uid == uid)
            return &node->demands[i];
    return NULL;
}

static void answered(struct node *node, struct request *request)
{
    struct replica *replica = request->at;
    struct demand *demand = demand_of(node, request->uid);
    if (demand) {
        demand->done++;
        demand->busy_ns += (uint64_t)(request->ends_ns - request->began_ns);
    }
    *request = (struct request){};
    node->answered++;
    if (replica->draining && !requests_on(node, replica))
        gateway_drained(node, replica);
}

static bool refused(const struct node *node, const struct request *request)
{
    const struct table_head *table = (const struct table_head *)(const void *)node->table;
    uint64_t uid = revision_of(node, request->uid);
    const struct replica *one;
    for (uint32_t i = 0; i < table->revisions.count; i++) {
        const struct table_revision *row = table_revision(table, i);
        if (row->uid != uid || !row->message.bytes || table_retried(table, row))
            continue;
        LIST_EACH (one, &node->replicas, struct replica, link)
            if (one->revision == uid && one->is_ready && one->gateway_has)
                return false;
        assert_true(table_endpoint(table, row->endpoint)->serving != i);
        return true;
    }
    return false;
}

static void look(struct node *node, struct request *request)
{
    const struct wish *wish = wish_of(node, request->uid);
    if (!request->at && (!wish || !wish->running || refused(node, request))) {
        *request = (struct request){}; /* it is told that there is none any more, or why */
        node->turned_away++;
    } else if (request->at && env_now_ns(node->env) >= request->ends_ns) {
        answered(node, request);
    } else if (!request->at) {
        begin(node, request);
    }
}

static void some_come(struct node *node)
{
    int which = (int)node_draw(node, 0, ENDPOINTS - 1);
    const struct wish *wish = &node->acked[which];
    int64_t count = node_maybe(node, 10) ? node_draw(node, 1, COME_MAX) : 0;
    for (unsigned i = 0; i < REQUESTS_MAX && count > 0 && wish->there && wish->running; i++) {
        if (node->requests[i].uid)
            continue;
        node->requests[i] = (struct request){ .uid = wish->uid };
        node->demands[which].arrivals++;
        node->came++;
        count--;
    }
}

static void tell(struct node *node, int which)
{
    struct message_demand message = MESSAGE_INIT(MESSAGE_DEMAND);
    struct demand *demand = &node->demands[which];
    uint64_t uid = node->acked[which].uid;
    for (unsigned i = 0; i < REQUESTS_MAX; i++) {
        message.running += uid && node->requests[i].uid == uid && node->requests[i].at;
        message.waiting += uid && node->requests[i].uid == uid && !node->requests[i].at;
    }
    bool any = message.running || message.waiting || demand->arrivals || demand->done;
    if (!any && !demand->told)
        return;
    message.revision = revision_of(node, uid);
    message.arrivals = demand->arrivals;
    message.done = demand->done;
    message.busy_ns = demand->busy_ns;
    *demand = (struct demand){ .told = any };
    if (message.revision)
        message_send(node, TO_AGENT, ROLE_AGENT, &message, sizeof message, -1);
}

static void on_tick(struct env_timer *, void *data)
{
    struct node *node = data;
    env_timer_start(node->env, &node->traffic, TICK_MS * ENV_MS, on_tick, node);
    if (!gateway_serves(node))
        return;
    if (node->chaos)
        some_come(node);
    for (unsigned i = 0; i < REQUESTS_MAX; i++)
        if (node->requests[i].uid)
            look(node, &node->requests[i]);
    if (++node->ticks % TOLD_TICKS == 0)
        for (int i = 0; i < ENDPOINTS; i++)
            tell(node, i);
}

void requests_begin(struct node *node)
{
    env_timer_start(node->env, &node->traffic, TICK_MS * ENV_MS, on_tick, node);
}

void requests_end(struct node *node)
{
    env_timer_stop(node->env, &node->traffic);
}

/* NULL: the gateway has died, and all of them with it. */
void requests_again(struct node *node, const struct replica *replica)
{
    for (unsigned i = 0; i < REQUESTS_MAX; i++)
        if (!replica || node->requests[i].at == replica)
            node->requests[i].at = NULL;
}

unsigned requests_left(const struct node *node)
{
    unsigned count = 0;
    for (unsigned i = 0; i < REQUESTS_MAX; i++)
        count += node->requests[i].uid != 0;
    return count;
}
