/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replicas for whose regions there was no memory. The supervisor tells of each one once: what it
 * said is kept, and tried again until there is memory or the replica is over, or is to be. Main
 * thread.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "gateway/core.h"
#include "io/timer.h"
#include "sys/channel.h"
#include "sys/fd.h"

struct later {
    struct list link;
    struct message_replica_added added;
    size_t fd_count;
    int fds[CHANNEL_FDS_MAX];
};

static void later_free(struct later *later)
{
    list_remove(&later->link);
    for (size_t i = 0; i < later->fd_count; i++)
        fd_close(&later->fds[i]);
    free(later);
}

static struct later *later_find(struct gateway *gateway, uint64_t id)
{
    struct later *later;

    LIST_EACH (later, &gateway->later, struct later, link)
        if (later->added.replica == id)
            return later;
    return NULL;
}

bool later_has(struct gateway *gateway, uint64_t id)
{
    return later_find(gateway, id) != NULL;
}

void later_keep(struct gateway *gateway, const struct message_replica_added *added, int *fds,
                size_t fd_count)
{
    struct later *later = mem_zalloc(sizeof *later);

    assert(fd_count <= CHANNEL_FDS_MAX);
    later->added = *added;
    later->fd_count = fd_count;
    for (size_t i = 0; i < fd_count; i++)
        later->fds[i] = take_fd(fds[i]);
    list_append(&gateway->later, &later->link);
    if (!timer_running(gateway->later_due))
        timer_start(gateway->later_due, GATEWAY_AGAIN_MS);
}

void later_forget(struct gateway *gateway, uint64_t id)
{
    struct later *later = later_find(gateway, id);

    if (later)
        later_free(later);
}

void later_again(void *data)
{
    struct gateway *gateway = data;
    struct later *later;
    struct err err;

    LIST_EACH (later, &gateway->later, struct later, link) {
        int r = world_replica_attach(gateway, &later->added, later->fds, later->fd_count, &err);
        if (r == ERR_INTERNAL)
            continue;
        if (r < 0)
            log_error("gateway", "cannot attach a replica", LOG_S("replica", later->added.name),
                      LOG_S("why", err.message));
        later_free(later);
    }
    if (!list_empty(&gateway->later))
        timer_start(gateway->later_due, GATEWAY_AGAIN_MS);
}

void later_end(struct gateway *gateway)
{
    struct later *later;

    LIST_EACH (later, &gateway->later, struct later, link)
        later_free(later);
    timer_free(gateway->later_due);
}
