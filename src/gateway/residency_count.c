/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What residency refused and ended, as counts: metrics here, and some words to the agent, at once
 * and then now and then.
 */
#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>

#include "gateway/gateway.h"
#include "gateway/request.h"
#include "io/loop.h"
#include "io/timer.h"

static const struct slice denials[] = {
#define DENIAL(name) SLICE(#name),
    REQUEST_DENIALS(DENIAL)
#undef DENIAL
};

static_assert(sizeof denials / sizeof *denials == GATEWAY_DENIALS);

void residency_count(struct request *request)
{
    struct slice labels[3] = { [2] = denials[request->denial] };
    struct gateway *gateway = request->gl->gateway;

    if (request->row) {
        labels[0] = table_text(request->table->head, request->row->project);
        labels[1] = table_text(request->table->head, request->row->name);
        atomic_fetch_add(&request->endpoint->denied[request->denial], 1);
        if (!atomic_exchange(&gateway->denied_due, true))
            loop_post(gateway->main, residency_tell, gateway);
    }
    metric_add(metrics_series(&request->gl->metrics, GATEWAY_DENIED, labels), 1);
}

/* False: nothing was refused since. What the agent does not take now, it is told later. */
static bool endpoint_tell(struct gateway *gateway, struct endpoint *endpoint)
{
    bool any = false;

    for (unsigned i = 0; i < GATEWAY_DENIALS; i++) {
        uint32_t count = atomic_exchange(&endpoint->denied[i], 0);
        if (count == 0)
            continue;
        union message message = { .as_MESSAGE_DENIED = MESSAGE_INIT(MESSAGE_DENIED) };
        message.as_MESSAGE_DENIED.endpoint = endpoint->uid;
        message.as_MESSAGE_DENIED.count = count;
        snprintf(message.as_MESSAGE_DENIED.reason, sizeof message.as_MESSAGE_DENIED.reason, "%s",
                 denials[i].data);
        if (!gateway_send_agent(gateway, &message))
            atomic_fetch_add(&endpoint->denied[i], count);
        any = true;
    }
    return any;
}

void residency_tell(void *data)
{
    struct gateway *gateway = data;
    bool any = false;

    atomic_store(&gateway->denied_due, false); /* first: who comes now tells */
    MAP_EACH (entry, &gateway->endpoints)
        any |= endpoint_tell(gateway, entry->value);
    if (!any)
        return;
    atomic_store(&gateway->denied_due, true);
    timer_start(gateway->denied, gateway_denied_ms);
}
