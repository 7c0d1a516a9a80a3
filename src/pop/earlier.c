/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent before this one left: replicas, and arenas, that the supervisor tells of. Those of
 * a revision that is not known serve on until control has told everything.
 */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "pop/state_inside.h"

void pop_stranger_free(struct stranger *stranger)
{
    list_remove(&stranger->link);
    free(stranger);
}

struct stranger *pop_stranger_find(struct pop *pop, uint64_t replica)
{
    struct stranger *stranger;
    LIST_EACH (stranger, &pop->strangers, struct stranger, link)
        if (stranger->added.replica == replica)
            return stranger;
    return NULL;
}

static void replica_adopt(struct pop_revision *revision, const struct message_replica_added *added)
{
    struct pop_replica *replica = pop_replica_make(revision, added->replica);
    const char *dash = strrchr(added->name, '-');
    uint64_t ordinal = 0;
    (void)(dash && slice_u64(slice_of(dash + 1), &ordinal));
    replica->ordinal = ordinal ? (uint32_t)ordinal : pop_ordinal_free(revision->endpoint);
    replica->pid = added->pid;
    replica->adopted = true;
    revision->adopted_ns = env_now_ns(revision->endpoint->pop->env);
}

void pop_replica_added(struct pop *pop, const struct message_replica_added *added)
{
    struct pop_replica *replica = map_get_u64(&pop->replicas_by_id, added->replica);
    struct pop_revision *revision = pop_revision_find(pop, added->revision);
    if (replica) {
        replica->pid = added->pid;
    } else if (revision) { /* of the agent before this one */
        replica_adopt(revision, added);
    } else if (pop->synced) {
        pop->effects->replica_unwanted(added->replica, pop->data);
        return;
    } else if (!pop_stranger_find(pop, added->replica)) {
        struct stranger *stranger = mem_zalloc(sizeof *stranger);
        stranger->added = *added;
        list_append(&pop->strangers, &stranger->link);
    }
    pop->effects->report(pop, pop->data);
}

void pop_strangers_look(struct pop *pop)
{
    struct stranger *stranger;
    LIST_EACH (stranger, &pop->strangers, struct stranger, link) {
        struct pop_revision *revision = pop_revision_find(pop, stranger->added.revision);
        if (revision) {
            replica_adopt(revision, &stranger->added);
            struct pop_replica *replica =
                map_get_u64(&pop->replicas_by_id, stranger->added.replica);
            replica->drained_before = stranger->drained;
            pop->effects->replica_look(replica, pop->data);
        } else if (pop->synced) {
            pop->effects->replica_unwanted(stranger->added.replica, pop->data);
        } else {
            continue;
        }
        pop_stranger_free(stranger);
    }
}

void pop_arena_kept(struct pop *pop, uint64_t revision_uid)
{
    if (pop_revision_find(pop, revision_uid))
        return; /* pop_forget() gives it up in time */
    if (pop->synced)
        pop->effects->revision_gone(revision_uid, pop->data);
    else
        (void)map_put_u64(&pop->arenas, revision_uid, pop);
}

void pop_arenas_look(struct pop *pop)
{
    MAP_EACH (entry, &pop->arenas) {
        uint64_t uid = entry->key.size;
        map_remove_u64(&pop->arenas, uid);
        pop_arena_kept(pop, uid);
    }
}
