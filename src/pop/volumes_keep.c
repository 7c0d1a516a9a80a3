/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which volumes stay: those that a known revision wants, or that one may want which is not
 * understood here; and none where the law does not let the endpoint be. At the end of the agent all
 * do, and the engine alone forgets them.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/log.h"
#include "io/loop.h"
#include "pop/volumes_inside.h"
#include "replica/engine/volume.h"

/* The endpoint's volume that is that file, by any of its revisions; NULL: none is. */
static const struct spec_volume *volume_of(const struct pop_endpoint *endpoint, const char *file)
{
    const struct pop_revision *revision;
    char one[VOLUME_FILE_BYTES];

    LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link) {
        const struct spec_volumes *volumes =
            revision->image ? &revision->image->spec.container.volumes : NULL;
        for (size_t i = 0; volumes && i < volumes->count; i++)
            if (strcmp(volume_file_of(endpoint->uid, &volumes->items[i], one), file) == 0)
                return &volumes->items[i];
    }
    return NULL;
}

/* Where control has placed the endpoint elsewhere its volumes stay: it may come back. Where the law
 * does not let it be here they do not, whatever else is told. */
static bool needed(struct agent *agent, const char *file)
{
    uint64_t uid = volume_endpoint(file);
    const struct pop_endpoint *endpoint = pop_endpoint_find(&agent->pop, uid);

    if (endpoint && pop_endpoint_barred(endpoint))
        return false;
    return pop_unread(&agent->pop, uid) || (endpoint && volume_of(endpoint, file));
}

static void removed(struct agent *agent, const char *file)
{
    const struct pop_endpoint *endpoint = pop_endpoint_find(&agent->pop, volume_endpoint(file));
    const struct spec_volume *spec = endpoint ? volume_of(endpoint, file) : NULL;
    struct agent_volume *volume = volume_find(agent, file);
    char message[512];

    if (volume)
        volume_free(volume);
    log_info("pop", "a volume that nobody needs is removed", LOG_S("file", file));
    if (!endpoint || !pop_endpoint_barred(endpoint))
        return;
    snprintf(message, sizeof message, "the volume '%s' is removed from this PoP: %s",
             spec ? ERR_SLICE(spec->path) : file, endpoint->barred);
    agent_note_event(agent, "volume_removed", endpoint, NULL, message);
}

/* What a container still has mounted stays its own until then, and is on no list any more. */
static void files_remove(struct agent *agent)
{
    char path[VOLUME_PATH_BYTES];
    DIR *dir = opendir(volume_path_of(agent, "", path));

    for (const struct dirent *entry; dir && (entry = readdir(dir));)
        if (entry->d_name[0] != '.' && !needed(agent, entry->d_name) &&
            unlinkat(dirfd(dir), entry->d_name, 0) == 0)
            removed(agent, entry->d_name);
    if (dir)
        closedir(dir);
}

static bool named(const struct agent *agent, struct slice name)
{
    const struct agent_volume *volume;

    LIST_EACH (volume, &agent->containers.volumes, struct agent_volume, link)
        if (slice_is(name, volume->name))
            return true;
    return false;
}

static void on_removed(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct agent *agent = data;
    (void)answer;

    if (!err || err->code == ERR_NOT_FOUND || err->code == ERR_CANCELED)
        return;
    if (err->code != ERR_CONFLICT) /* a container that ends has it yet */
        log_warn("pop", "a volume that nobody needs stays at the engine",
                 LOG_S("why", err->message));
    agent_containers_left(agent);
}

static void volume_remove(struct agent *agent, struct slice name, engine_cb on_done, void *data)
{
    char target[ENGINE_VOLUME_NAME_MAX + 32];

    snprintf(target, sizeof target, "/volumes/%.*s", SLICE_FMT(name));
    engine_ask(agent->containers.engine, ENGINE_DELETE, target, (struct slice){}, VOLUME_ASK_MS,
               on_done, data);
}

static void on_listed(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct agent *agent = data;
    struct arena *arena = arena_new();
    struct engine_volumes list;

    if (!err && engine_volumes_parse(arena, answer->body, slice_of(agent->containers.home), &list,
                                     NULL) == 0)
        for (size_t i = 0; i < list.count; i++)
            if (!named(agent, list.items[i].name))
                volume_remove(agent, list.items[i].name, on_removed, agent);
    arena_free(arena);
}

void agent_volumes_look(struct agent *agent)
{
    if (!agent->pop.synced || agent->containers.ending)
        return;
    files_remove(agent);
    agent_volumes_count(agent);
    if (!agent_engine_here(agent))
        return;
    engine_volumes(agent->containers.engine, VOLUME_ASK_MS, on_listed, agent);
}

static void on_soon(void *data)
{
    struct agent *agent = data;

    agent->containers.volumes_posted = false;
    agent_volumes_look(agent);
}

void agent_volumes_soon(struct agent *agent)
{
    if (agent->containers.volumes_posted)
        return;
    agent->containers.volumes_posted = true;
    loop_post(agent->loop, on_soon, agent);
}

void agent_volumes_gone(struct agent *agent, const struct pop_revision *revision)
{
    if (revision->image && revision->image->spec.container.volumes.count)
        agent_volumes_soon(agent); /* the revision is there yet */
}

/* ---- the end --------------------------------------------------------------------------------- */

static void on_ended(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct agent *agent = data;
    (void)answer;

    agent->containers.volumes_ending--;
    if (!err || err->code != ERR_CANCELED)
        agent_containers_gone(agent);
}

bool agent_volumes_end(struct agent *agent)
{
    struct agent_containers *containers = &agent->containers;
    struct agent_volume *volume;

    if (containers->engine)
        LIST_EACH (volume, &containers->volumes, struct agent_volume, link) {
            containers->volumes_ending++;
            volume_remove(agent, slice_of(volume->name), on_ended, agent);
            volume_free(volume);
        }
    return containers->volumes_ending == 0;
}
