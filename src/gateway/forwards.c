/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a loop has for requests that are passed on.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/auto.h"
#include "gateway/forward_own.h"

struct forwards *forwards_new(struct gateway_loop *gl)
{
    struct forwards *forwards = mem_zalloc(sizeof *forwards);
    struct address source = http_source_of_environment();
    struct http_client_config config = {
        .connect_ms = FORWARD_CONNECT_MS,
        .head_ms = FORWARD_HEAD_MS,
        .idle_ms = FORWARD_IDLE_MS,
        .kept_max = FORWARD_KEPT_CONNECTIONS,
        .source = source,
    };

    forwards->gl = gl;
    forwards->source = source;
    forwards->client = http_client_new(gl->loop, &config);
    list_init(&forwards->under_way);
    return forwards;
}

void forwards_free(struct forwards *forwards)
{
    if (!forwards)
        return;
    http_client_free(forwards->client);
    assert(list_empty(&forwards->under_way));
    forward_pops_free(forwards);
    free(forwards);
}

void forwards_table(struct gateway_loop *gl)
{
    struct forward *forward;

    if (!gl->forwards)
        return;
    forwards_forget(gl->forwards);
    LIST_EACH (forward, &gl->forwards->under_way, struct forward, link)
        forward_uphold(forward);
}

void forwards_review(struct gateway_loop *gl)
{
    struct forward *forward;

    if (!gl->forwards) /* the loop has ended, and is told the rest */
        return;
    LIST_EACH (forward, &gl->forwards->under_way, struct forward, link) {
        forward_look_delivered(forward);
        if (forward->relay.call && forward_peer_down(gl->forwards, forward->peer))
            forward_peer_lost(forward);
    }
    forward_peers_tell(gl->forwards);
}
