/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a revision wants of volumes is made before its first replica starts: the files on a thread,
 * then the engine is told of each.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "io/work.h"
#include "pop/volumes_inside.h"
#include "replica/engine/volume.h"
#include "sys/fd.h"
#include "sys/room.h"

struct volumes_make {
    struct work work;
    struct agent *agent;
    struct arena *arena;
    uint64_t endpoint;
    struct spec_volumes volumes;
    size_t at;                /* the one at hand: the thread's, then that the engine is told of */
    struct engine_call *call; /* under way */
    volumes_made_cb on_made;
    void *data;
    bool works;     /* the thread has it */
    bool forgotten; /* it is freed when the thread gives it back */
    bool again;     /* models gave way for it */
    bool renewed;   /* the engine had another one of that name */

    /* the thread's */
    const char *folder;            /* with a slash behind it */
    struct volume_device *devices; /* of each volume, held until all is made */
    struct room_need need;         /* of those that were not there */
    int result;
    struct err err;
};

static void make_free(struct volumes_make *make)
{
    if (make->call)
        engine_forget(make->call);
    for (size_t i = 0; i < make->volumes.count; i++)
        fd_close(&make->devices[i].fd);
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
    agent_volumes_count(make->agent); /* some may be there even so */
    make_free(make);
    on_made(err ? &why : NULL, data);
}

/* ---- on the thread --------------------------------------------------------------------------- */

static const char *path_at(struct volumes_make *make, size_t at)
{
    char file[VOLUME_FILE_BYTES];

    return arena_format(make->arena, "%s%s", make->folder,
                        volume_file_of(make->endpoint, &make->volumes.items[at], file));
}

/* For all that are not there, before one is made. */
static int room_for_all(struct volumes_make *make)
{
    make->need.bytes = 0;
    for (size_t i = make->volumes.count; i-- > 0;)
        if (access(path_at(make, i), F_OK) < 0) {
            make->need.bytes += make->volumes.items[i].bytes;
            make->at = i; /* the first of them is named */
        }
    int r = room_check(make->folder, make->need.bytes, &make->err);
    make->need.refused = r < 0;
    return r;
}

/* Its device is there, and it can be mounted. The device is held, as a second one would be made by
 * whoever looks for it in between. */
static int make_ready(struct volumes_make *make, const char *path)
{
    struct volume_device *device = &make->devices[make->at];
    bool mended = false;
    int r = device->fd < 0 ? volume_attach(path, device, &make->err) : 0;

    if (r == 0)
        r = volume_mend(path, device, &mended, &make->err);
    if (mended)
        log_warn("pop", "the file system of a volume was mended", LOG_S("file", path));
    return r;
}

static void run(struct work *work)
{
    struct volumes_make *make = (struct volumes_make *)work; /* its first member */

    if (make->result < 0)
        return;
    if (mkdir(make->folder, 0700) < 0 && errno != EEXIST)
        make->result =
            err_set(&make->err, ERR_INTERNAL, "making '%s': %s", make->folder, strerror(errno));
    if (make->result == 0)
        make->result = room_for_all(make);
    if (make->result < 0)
        return;
    for (make->at = 0; make->at < make->volumes.count; make->at++) {
        const char *path = path_at(make, make->at);
        if (access(path, F_OK) < 0)
            make->result = volume_make(path, make->volumes.items[make->at].bytes, &make->err);
        if (make->result == 0)
            make->result = make_ready(make, path);
        if (make->result < 0)
            return;
    }
}

/* ---- on the loop ----------------------------------------------------------------------------- */

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
    char target[VOLUME_NAME_BYTES + 32];

    if (make->renewed) {
        (void)err_set(&err, ERR_PRECONDITION, "the engine has another one of the name '%s'",
                      volume->name);
        over(make, &err);
        return;
    }
    make->renewed = true;
    snprintf(target, sizeof target, "/volumes/%s", volume->name);
    make->call = engine_ask(make->agent->containers.engine, ENGINE_DELETE, target, (struct slice){},
                            VOLUME_ASK_MS, on_dropped, make);
}

static struct engine_volume_want want_of(const struct agent *agent,
                                         const struct agent_volume *volume)
{
    return (struct engine_volume_want){ slice_of(volume->name), slice_of(agent->containers.home),
                                        volume->device.number };
}

static struct agent_volume *volume_at(struct volumes_make *make, struct err *err)
{
    char file[VOLUME_FILE_BYTES];

    return volume_attached(
        make->agent, volume_file_of(make->endpoint, &make->volumes.items[make->at], file), err);
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
                            engine_volume_json(make->arena, &want), VOLUME_ASK_MS, on_told, make);
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
        agent_models_give_way(make->agent, &make->need)) {
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
    char path[VOLUME_PATH_BYTES];

    for (size_t i = 0; i < volumes->count; i++)
        items[i] = (struct spec_volume){ arena_copy(arena, volumes->items[i].path),
                                         volumes->items[i].bytes };
    make->agent = agent;
    make->arena = arena;
    make->endpoint = revision->endpoint->uid;
    make->volumes = (struct spec_volumes){ items, volumes->count };
    make->devices = ARENA_ARRAY(arena, struct volume_device, volumes->count + 1);
    for (size_t i = 0; i < volumes->count; i++)
        make->devices[i].fd = -1;
    make->on_made = on_made;
    make->data = data;
    make->folder = arena_string(arena, slice_of(volume_path_of(agent, "", path)));
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
