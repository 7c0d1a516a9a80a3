/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cache volumes of endpoints: files of this home, each a disk of its own (sys/volume.h), which the
 * engine mounts while a container uses it. A file's name says whose it is: the endpoint's uid, the
 * path and the size; so all revisions that want the same share it, and it stays as long as one is
 * known. The device, and the engine's volume, which names the device, are made anew when they are
 * not there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "io/loop.h"
#include "io/work.h"
#include "pop/agent.h"
#include "replica/engine/container.h"
#include "replica/engine/volume.h"
#include "store/digest.h"
#include "sys/env_linux.h"
#include "sys/fd.h"
#include "sys/volume.h"

#define FOLDER "pop/volumes" /* in the home */

enum { ASK_MS = 30'000, FILE_BYTES = 64, NAME_BYTES = 96, PATH_BYTES = MESSAGE_PATH_BYTES + 96 };

struct agent_volume { /* one with a device */
    struct list link; /* of agent->containers.volumes */
    char file[FILE_BYTES];
    char name[NAME_BYTES]; /* at the engine */
    struct volume_device device;
};

static_assert((int)NAME_BYTES <= (int)ENGINE_VOLUME_NAME_MAX,
              "a name that can be told from others'");

/* ---- which there are ------------------------------------------------------------------------- */

static const char *file_of(uint64_t endpoint, const struct spec_volume *volume,
                           char ret[static FILE_BYTES])
{
    char digest[DIGEST_TEXT];

    digest_of(volume->path, digest);
    snprintf(ret, FILE_BYTES, "%" PRIx64 "-%.12s-%" PRIu64, endpoint, digest + strlen("sha256:"),
             volume->bytes);
    return ret;
}

static const char *path_of(const struct agent *agent, const char *file, char ret[static PATH_BYTES])
{
    snprintf(ret, PATH_BYTES, "%s/" FOLDER "/%s", agent->start.home, file);
    return ret;
}

static struct agent_volume *find(const struct agent *agent, const char *file)
{
    struct agent_volume *volume;

    LIST_EACH (volume, &agent->containers.volumes, struct agent_volume, link)
        if (strcmp(volume->file, file) == 0)
            return volume;
    return NULL;
}

static void volume_free(struct agent_volume *volume)
{
    fd_close(&volume->device.fd);
    list_remove(&volume->link);
    free(volume);
}

/* Its device, found or made; the file is there. */
static struct agent_volume *attach(struct agent *agent, const char *file, struct err *err)
{
    struct agent_volume *volume = find(agent, file);
    struct volume_device device;
    char path[PATH_BYTES];

    if (volume)
        return volume;
    if (volume_attach(path_of(agent, file, path), &device, err) < 0)
        return NULL;
    volume = mem_zalloc(sizeof *volume);
    volume->device = device;
    snprintf(volume->file, sizeof volume->file, "%s", file);
    snprintf(volume->name, sizeof volume->name, "perigee-%.8s-%s-loop%u",
             agent->containers.home + strlen("sha256:"), file, device.number);
    list_append(&agent->containers.volumes, &volume->link);
    return volume;
}

int agent_volumes_attach(struct agent *agent, const struct pop_revision *revision, struct err *err)
{
    const struct spec_volumes *volumes = &revision->image->spec.container.volumes;
    char file[FILE_BYTES];

    for (size_t i = 0; i < volumes->count; i++)
        if (!attach(agent, file_of(revision->endpoint->uid, &volumes->items[i], file), err))
            return err_wrap(err, "the volume '%s'", ERR_SLICE(volumes->items[i].path));
    return 0;
}

void agent_volumes_tell(const struct agent *agent, struct arena *arena,
                        const struct pop_revision *revision, struct engine_container *ret)
{
    const struct spec_volumes *volumes = &revision->image->spec.container.volumes;
    struct engine_volume *told = ARENA_ARRAY(arena, struct engine_volume, volumes->count + 1);
    char file[FILE_BYTES];

    for (size_t i = 0; i < volumes->count; i++) {
        const struct agent_volume *volume =
            find(agent, file_of(revision->endpoint->uid, &volumes->items[i], file));
        told[i].path = volumes->items[i].path;
        told[i].name = slice_of(volume ? volume->name : "");
        told[i].device = slice_of(volume ? volume->device.id : "");
    }
    ret->volumes = told;
    ret->volume_count = volumes->count;
}

uint64_t agent_volumes_bytes(const struct agent *agent)
{
    char path[PATH_BYTES];
    uint64_t bytes = 0;
    struct stat st;
    DIR *dir = opendir(path_of(agent, "", path));

    for (const struct dirent *entry; dir && (entry = readdir(dir));)
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode))
            bytes += (uint64_t)st.st_size;
    if (dir)
        closedir(dir);
    return bytes;
}

/* ---- making them ----------------------------------------------------------------------------- */

struct volumes_make {
    struct work work;
    struct agent *agent;
    struct arena *arena;
    uint64_t endpoint;
    struct spec_volumes volumes;
    size_t at;                /* the one that the engine is told of */
    struct engine_call *call; /* under way */
    volumes_made_cb on_made;
    void *data;
    bool works;     /* the thread has it */
    bool forgotten; /* it is freed when the thread gives it back */
    bool again;     /* models gave way for it */
    bool renewed;   /* the engine had another one of that name */

    /* the thread's */
    const char *folder;
    uint64_t bytes; /* of the one that failed */
    int result;
    struct err err;
};

static void make_free(struct volumes_make *make)
{
    if (make->call)
        engine_forget(make->call);
    arena_free(make->arena);
    free(make);
}

static void over(struct volumes_make *make, const struct err *err)
{
    volumes_made_cb on_made = make->on_made;
    void *data = make->data;
    struct err why = err ? *err : (struct err){};

    if (err && make->at < make->volumes.count)
        (void)err_wrap(&why, "the volume '%s'", ERR_SLICE(make->volumes.items[make->at].path));
    make_free(make);
    on_made(err ? &why : NULL, data);
}

/* On the thread: files that are not there. */
static void run(struct work *work)
{
    struct volumes_make *make = (struct volumes_make *)work; /* its first member */
    char file[FILE_BYTES];

    if (make->result < 0)
        return;
    if (mkdir(make->folder, 0700) < 0 && errno != EEXIST)
        make->result =
            err_set(&make->err, ERR_INTERNAL, "making '%s': %s", make->folder, strerror(errno));
    for (make->at = 0; make->result == 0 && make->at < make->volumes.count; make->at++) {
        const struct spec_volume *volume = &make->volumes.items[make->at];
        const char *path =
            arena_format(make->arena, "%s/%s", make->folder, file_of(make->endpoint, volume, file));
        make->bytes = volume->bytes;
        if (access(path, F_OK) < 0)
            make->result = volume_make(path, volume->bytes, &make->err);
        if (make->result < 0)
            return;
    }
}

static void tell(struct volumes_make *make);

static void on_dropped(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct volumes_make *make = data;
    (void)answer;

    make->call = NULL;
    if (err && err->code != ERR_NOT_FOUND)
        over(make, err);
    else
        tell(make);
}

/* Somebody else's of that name: none of ours has another device. */
static void renew(struct volumes_make *make, const struct agent_volume *volume)
{
    struct err err;
    char target[NAME_BYTES + 32];

    if (make->renewed) {
        (void)err_set(&err, ERR_PRECONDITION, "the engine has another one of the name '%s'",
                      volume->name);
        over(make, &err);
        return;
    }
    make->renewed = true;
    snprintf(target, sizeof target, "/volumes/%s", volume->name);
    make->call = engine_ask(make->agent->containers.engine, ENGINE_DELETE, target, (struct slice){},
                            ASK_MS, on_dropped, make);
}

static struct engine_volume_want want_of(const struct agent *agent,
                                         const struct agent_volume *volume)
{
    return (struct engine_volume_want){ slice_of(volume->name), slice_of(agent->containers.home),
                                        volume->device.number };
}

static struct agent_volume *volume_at(struct volumes_make *make, struct err *err)
{
    char file[FILE_BYTES];

    return attach(make->agent, file_of(make->endpoint, &make->volumes.items[make->at], file), err);
}

static void on_told(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct volumes_make *make = data;
    struct engine_volume_seen seen;
    struct err why = err ? *err : (struct err){};

    make->call = NULL;
    const struct agent_volume *volume = err ? NULL : volume_at(make, &why);
    if (volume && engine_volume_parse(make->arena, answer->body, &seen, &why) < 0)
        volume = NULL;
    if (!volume) {
        over(make, &why);
        return;
    }
    struct engine_volume_want want = want_of(make->agent, volume);
    if (!engine_volume_fits(&want, &seen)) {
        renew(make, volume);
        return;
    }
    make->at++;
    make->renewed = false;
    tell(make);
}

static void tell(struct volumes_make *make)
{
    struct err err = {};

    if (make->at == make->volumes.count) {
        over(make, NULL);
        return;
    }
    const struct agent_volume *volume = volume_at(make, &err);
    if (!volume) {
        over(make, &err);
        return;
    }
    struct engine_volume_want want = want_of(make->agent, volume);
    make->call = engine_ask(make->agent->containers.engine, ENGINE_POST, "/volumes/create",
                            engine_volume_json(make->arena, &want), ASK_MS, on_told, make);
}

static void on_files(struct work *work, bool canceled)
{
    struct volumes_make *make = (struct volumes_make *)work;

    make->works = false;
    agent_pull_ended(make->agent, work);
    if (canceled || make->forgotten) {
        make_free(make);
        return;
    }
    if (make->result == ERR_OVERLOADED && !make->again &&
        agent_models_give_way(make->agent, make->bytes)) {
        log_info("pop", "kept models gave way on a full disk to a volume");
        make->again = true;
        make->result = 0;
        make->works = true;
        agent_pull_submit(make->agent, &make->work, false);
        return;
    }
    if (make->result < 0) {
        over(make, &make->err);
        return;
    }
    make->at = 0;
    tell(make);
}

struct volumes_make *agent_volumes_make(struct agent *agent, const struct pop_revision *revision,
                                        volumes_made_cb on_made, void *data)
{
    const struct spec_volumes *volumes = &revision->image->spec.container.volumes;
    struct volumes_make *make = mem_zalloc(sizeof *make);
    struct arena *arena = arena_new();
    struct spec_volume *items = ARENA_ARRAY(arena, struct spec_volume, volumes->count + 1);
    char path[PATH_BYTES];

    for (size_t i = 0; i < volumes->count; i++)
        items[i] = (struct spec_volume){ arena_copy(arena, volumes->items[i].path),
                                         volumes->items[i].bytes };
    make->agent = agent;
    make->arena = arena;
    make->endpoint = revision->endpoint->uid;
    make->volumes = (struct spec_volumes){ items, volumes->count };
    make->on_made = on_made;
    make->data = data;
    make->folder = arena_string(arena, slice_of(path_of(agent, "", path)));
    make->work = (struct work){ .run = run, .on_done = on_files };
    make->works = true;
    if (agent->containers.info.rootless) {
        make->result = err_set(&make->err, ERR_NOT_SUPPORTED,
                               "an engine without root mounts none that is bounded");
    }
    agent_pull_submit(agent, &make->work, false);
    return make;
}

void volumes_make_forget(struct volumes_make *make)
{
    make->forgotten = true;
    if (!make->works)
        make_free(make);
}

/* ---- removing -------------------------------------------------------------------------------- */

static bool needed(const struct agent *agent, const char *file)
{
    const struct pop_endpoint *endpoint;
    const struct pop_revision *revision;
    char one[FILE_BYTES];

    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link) {
            const struct spec_volumes *volumes =
                revision->image ? &revision->image->spec.container.volumes : NULL;
            for (size_t i = 0; volumes && i < volumes->count; i++)
                if (strcmp(file_of(endpoint->uid, &volumes->items[i], one), file) == 0)
                    return true;
        }
    return false;
}

/* Half made, and perhaps just being made. */
static bool under_way(const struct agent *agent, const char *file)
{
    return !list_empty(&agent->containers.fetches) && slice_ends(slice_of(file), SLICE(".new"));
}

/* What a container still has mounted stays its own until then, and is on no list any more. */
static void files_remove(struct agent *agent)
{
    char path[PATH_BYTES];
    DIR *dir = opendir(path_of(agent, "", path));

    for (const struct dirent *entry; dir && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.' || needed(agent, entry->d_name) ||
            under_way(agent, entry->d_name) || unlinkat(dirfd(dir), entry->d_name, 0) < 0)
            continue;
        struct agent_volume *volume = find(agent, entry->d_name);
        if (volume)
            volume_free(volume);
        log_info("pop", "a volume that nobody needs is removed", LOG_S("file", entry->d_name));
    }
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
    engine_ask(agent->containers.engine, ENGINE_DELETE, target, (struct slice){}, ASK_MS, on_done,
               data);
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
    if (!agent_engine_here(agent) || !agent->pop.synced || agent->containers.ending)
        return;
    files_remove(agent);
    engine_volumes(agent->containers.engine, ASK_MS, on_listed, agent);
}

static void on_soon(void *data)
{
    struct agent *agent = data;

    agent->containers.volumes_posted = false;
    agent_volumes_look(agent);
}

void agent_volumes_gone(struct agent *agent, const struct pop_revision *revision)
{
    if (!revision->image || !revision->image->spec.container.volumes.count ||
        agent->containers.volumes_posted)
        return;
    agent->containers.volumes_posted = true;
    loop_post(agent->loop, on_soon, agent); /* the revision is there yet */
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

void agent_volumes_close(struct agent *agent)
{
    struct agent_volume *volume;

    LIST_EACH (volume, &agent->containers.volumes, struct agent_volume, link)
        volume_free(volume);
}
