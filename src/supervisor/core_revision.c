/* SPDX-License-Identifier: Apache-2.0 */
/* Revisions as the supervisor knows them: the input arenas that their replicas share. */
#include <stdlib.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "supervisor/core_private.h"
#include "sys/fd.h"
#include "sys/shm.h"

static struct core_revision *revision_find(struct core *core, uint64_t uid)
{
    struct core_revision *revision;
    LIST_EACH (revision, &core->revisions, struct core_revision, link) {
        if (revision->uid == uid)
            return revision;
    }
    return NULL;
}

struct core_revision *core_revision_get(struct core *core, uint64_t uid, struct err *err)
{
    struct core_revision *revision = revision_find(core, uid);
    int fd = -1;
    if (revision)
        return revision;
    if (core->revision_count == REVISIONS_MAX) {
        (void)!err_set(err, ERR_OVERLOADED, "there are %d revisions already", REVISIONS_MAX);
        return NULL;
    }
    if (shm_create("perigee-arena", ARENA_BYTES, &fd, err) < 0)
        return NULL;
    revision = mem_zalloc(sizeof *revision);
    revision->uid = uid;
    revision->arena_fd = fd;
    list_append(&core->revisions, &revision->link);
    core->revision_count++;
    if (process_alive(&core->agent) && !core->agent.booting)
        revision_tell_agent(core, revision);
    return revision;
}

/* It knows whether the revision is still wanted; without an arena that it has heard of, a deleted
 * one's would stay for ever. */
void revision_tell_agent(struct core *core, struct core_revision *revision)
{
    struct message_revision message = MESSAGE_INIT(MESSAGE_ARENA_KEPT);
    message.revision = revision->uid;
    revision->told = true;
    core_tell(core, ROLE_AGENT, &message, sizeof message, NULL, 0);
}

void revision_free(struct core *core, struct core_revision *revision)
{
    fd_close(&revision->arena_fd);
    list_remove(&revision->link);
    core->revision_count--;
    free(revision);
}

void revision_want(struct core_process *gateway, uint64_t uid)
{
    struct core *core = gateway->core;
    struct message_arena message = MESSAGE_INIT(MESSAGE_ARENA);
    struct err err = {};
    const struct core_revision *revision = core_revision_get(core, uid, &err);
    if (!revision) {
        log_error("supervisor", "no input arena", LOG_S("why", err.message));
        return;
    }
    message.revision = uid;
    message.bytes = ARENA_BYTES;
    core->ops->send(gateway, &message, sizeof message, &revision->arena_fd, 1, core->data);
}

/* Clients' bytes of a gateway that died are nobody's: its half of each arena (each instance writes
 * the slices of its own lane set) is emptied. A replica that still reads there sees zeros, and
 * nobody waits for what it makes of them. */
void revisions_gateway_gone(struct core *core, uint64_t instance)
{
    struct core_revision *revision;
    LIST_EACH (revision, &core->revisions, struct core_revision, link)
        shm_punch_fd(revision->arena_fd, (instance & 1) * (ARENA_BYTES / 2), ARENA_BYTES / 2);
}

void revision_unused(struct core *core, struct core_revision *revision)
{
    if (!revision->gone || revision->users > 0)
        return;
    revision_free(core, revision);
    core_templates_look(core);
}

void revision_of_project(struct core *core, const struct message_revision_project *message)
{
    struct err err = {};
    struct core_revision *revision = core_revision_get(core, message->revision, &err);
    if (!revision) /* what is started next says so */
        return;
    memcpy(revision->project, message->project, sizeof revision->project);
    core_templates_look(core);
}

void revision_forget(struct core *core, uint64_t uid)
{
    struct core_revision *revision = revision_find(core, uid);
    if (!revision)
        return;
    revision->gone = true;
    revision_unused(core, revision);
}
