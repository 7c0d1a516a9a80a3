/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A revision's image, until the engine has it. Where it has it already, by its digest, nothing is
 * done; else its blobs are pulled where control's disk is not this one, and given to the engine as
 * a docker-archive (store/image.h). What was pulled goes once the engine has it.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "io/work.h"
#include "pop/agent.h"
#include "pop/images_inside.h"
#include "replica/engine/container.h"
#include "store/blobs.h"
#include "sys/fd.h"

enum { ASK_MS = 30'000, LOAD_MS = 60'000, LOAD_BYTES_A_MS = 4096 /* a slow disk's */ };

struct image_fetch {
    struct work work;
    struct list link; /* of agent->containers.fetches */
    struct agent *agent;
    uint64_t revision;
    const struct pop_image *image; /* the revision's, which stays while it is fetched */
    struct engine_call *call;      /* under way */
    struct volumes_make *volumes;  /* likewise */
    struct network_make *network;  /* likewise */
    bool waits;                    /* for the engine */
    bool room;                     /* likewise, for one there that goes to make room for it */
    bool kept_out;                 /* none there goes */
    bool works;                    /* the pool has it */
    atomic_bool ahead;             /* nobody waits for it yet */
    bool hurried;                  /* it was taken back from the pool, to be given to it anew */
    bool closed;                   /* the agent ends: it is freed when the thread gives it back */

    /* the thread's */
    struct arena *arena;
    const char *home;
    bool pulls, again; /* again: models gave way for it */
    struct pull_source source;
    struct room_need need;
    struct engine_piece *pieces;
    size_t piece_count;
    uint64_t bytes;
    int result;
    struct err err;
};

/* ---- on the thread --------------------------------------------------------------------------- */

static const struct slice *digests_of(const struct image_fetch *fetch, struct arena *arena)
{
    const struct pop_image *image = fetch->image;
    struct slice *digests = ARENA_ARRAY(arena, struct slice, image->layer_count + 1);

    digests[0] = image->config.digest;
    for (size_t i = 0; i < image->layer_count; i++)
        digests[i + 1] = image->layers[i].digest;
    return digests;
}

static uint64_t bytes_of(const struct pop_image *image)
{
    uint64_t bytes = image->config.bytes;

    for (size_t i = 0; i < image->layer_count; i++)
        bytes += image->layers[i].bytes;
    return bytes;
}

static int pieces_open(struct image_fetch *fetch, struct blobs *blobs,
                       const struct image_parts *parts, struct err *err)
{
    fetch->pieces = ARENA_ARRAY(fetch->arena, struct engine_piece, parts->count + 1);
    for (size_t i = 0; i < parts->count; i++) {
        const struct image_part *part = &parts->items[i];
        struct engine_piece *piece = &fetch->pieces[i];
        *piece = (struct engine_piece){ part->text, -1, part->bytes };
        fetch->piece_count = i + 1;
        if (part->text.size)
            continue;
        uint64_t bytes;
        int r = blobs_read(blobs, part->blob, &piece->fd, &bytes, err);
        if (r < 0)
            return r;
        if (bytes != part->bytes)
            return err_set(err, ERR_BAD_INPUT, "'%s' has %llu bytes, and the manifest says %llu",
                           ERR_SLICE(part->blob), (unsigned long long)bytes,
                           (unsigned long long)part->bytes);
    }
    fetch->bytes = parts->bytes;
    return 0;
}

static int archive(struct image_fetch *fetch, struct blobs *blobs, struct err *err)
{
    const struct pop_image *image = fetch->image;
    struct image_config config;
    struct image_parts parts;
    char *data = NULL;
    size_t size = 0;
    int r = blobs_load(blobs, image->config.digest, IMAGE_CONFIG_BYTES_MAX, &data, &size, err);

    if (r == 0)
        r = image_config_parse(fetch->arena, (struct slice){ data, size }, &config, err);
    free(data);
    if (r == 0)
        r = image_check(&config, slice_of(image_machine()), true, err);
    if (r == 0)
        r = image_archive(fetch->arena, &image->config, &config, image->layers, image->layer_count,
                          &parts, err);
    return r ? r : pieces_open(fetch, blobs, &parts, err);
}

static void run(struct work *work)
{
    struct image_fetch *fetch = (struct image_fetch *)work; /* its first member */
    struct blobs *blobs;

    if (fetch->pulls)
        fetch->result = agent_pull_blobs(
            &fetch->source, fetch->arena, digests_of(fetch, fetch->arena),
            fetch->image->layer_count + 1, bytes_of(fetch->image), &fetch->need, &fetch->err);
    if (fetch->result == 0)
        fetch->result = blobs_open(fetch->home, NULL, &blobs, &fetch->err);
    if (fetch->result != 0)
        return;
    fetch->result = archive(fetch, blobs, &fetch->err);
    blobs_close(blobs);
}

/* ---- on the loop ----------------------------------------------------------------------------- */

static void pieces_close(struct image_fetch *fetch)
{
    for (size_t i = 0; i < fetch->piece_count; i++)
        fd_close(&fetch->pieces[i].fd);
    fetch->piece_count = 0;
}

static void fetch_free(struct image_fetch *fetch)
{
    if (fetch->call)
        engine_forget(fetch->call);
    if (fetch->volumes)
        volumes_make_forget(fetch->volumes);
    if (fetch->network)
        network_make_forget(fetch->network);
    pieces_close(fetch);
    list_remove(&fetch->link);
    arena_free(fetch->arena);
    free(fetch);
}

static void over(struct image_fetch *fetch, const struct err *err)
{
    struct pop_revision *revision = pop_revision_find(&fetch->agent->pop, fetch->revision);
    struct err why = err ? *err : (struct err){};

    fetch_free(fetch);
    if (revision && revision->model_state == POP_MODEL_FETCHING)
        pop_model_fetched(revision, "", "", why.code ? &why : NULL);
}

static void on_network(const struct err *err, void *data)
{
    struct image_fetch *fetch = data;

    fetch->network = NULL;
    over(fetch, err);
}

static void network_begin(struct image_fetch *fetch, const struct pop_revision *revision)
{
    struct err err = {};

    if (revision && agent_network_allowed(fetch->agent, revision, &err) < 0)
        over(fetch, &err);
    else if (revision && agent_network_wanted(fetch->agent, revision))
        fetch->network = agent_network_make(fetch->agent, revision, on_network, fetch);
    else
        over(fetch, NULL);
}

static void on_volumes(const struct err *err, void *data)
{
    struct image_fetch *fetch = data;

    fetch->volumes = NULL;
    if (err)
        over(fetch, err);
    else
        network_begin(fetch, pop_revision_find(&fetch->agent->pop, fetch->revision));
}

/* The engine has the image. */
static void has_it(struct image_fetch *fetch)
{
    const struct pop_revision *revision = pop_revision_find(&fetch->agent->pop, fetch->revision);

    if (revision && revision->image->spec.container.volumes.count)
        fetch->volumes = agent_volumes_make(fetch->agent, revision, on_volumes, fetch);
    else
        network_begin(fetch, revision);
}

static bool has_layer(const struct pop_image *image, struct slice digest)
{
    for (size_t i = 0; i < image->layer_count; i++)
        if (slice_equal(image->layers[i].digest, digest))
            return true;
    return slice_equal(image->config.digest, digest);
}

/* What another image waits for stays. */
static void pulled_remove(struct image_fetch *fetch)
{
    struct arena *arena = arena_new();
    const struct slice *digests = digests_of(fetch, arena);
    const struct image_fetch *other;
    struct blobs *blobs;
    struct err ignored;

    if (blobs_open(fetch->home, NULL, &blobs, &ignored) == 0) {
        for (size_t i = 0; i <= fetch->image->layer_count; i++) {
            bool needed = false;
            LIST_EACH (other, &fetch->agent->containers.fetches, struct image_fetch, link)
                needed |= other != fetch && has_layer(other->image, digests[i]);
            if (!needed)
                (void)!blobs_delete(blobs, digests[i], &ignored);
        }
        blobs_close(blobs);
    }
    arena_free(arena);
}

static void given(const struct image_fetch *fetch)
{
    struct pop *pop = &fetch->agent->pop;
    const struct pop_revision *revision = pop_revision_find(pop, fetch->revision);
    char message[96];

    agent_image_given(fetch->agent, fetch->image->config.digest);
    if (!revision)
        return;
    snprintf(message, sizeof message, "the engine has the image of revision %u: %.1f MiB",
             revision->number, (double)bytes_of(fetch->image) / (1 << 20));
    pop->effects->event(pop, "image_loaded", revision->endpoint, NULL, message, pop->data);
}

static void on_loaded(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct image_fetch *fetch = data;
    struct err why = err ? *err : (struct err){};
    (void)answer;

    fetch->call = NULL;
    pieces_close(fetch);
    if (!err)
        given(fetch);
    if (!err && fetch->pulls)
        pulled_remove(fetch);
    if (!err) {
        has_it(fetch);
        return;
    }
    (void)err_wrap(&why, "giving the engine the image");
    over(fetch, &why);
}

static void on_archive(struct work *work, bool canceled);

/* Before anything is pulled: it comes first, perhaps onto the engine's own disk. */
static int engine_room(const struct image_fetch *fetch, struct err *err)
{
    const struct agent *agent = fetch->agent;
    uint64_t bytes = bytes_of(fetch->image);

    return engine_info_room(&agent->containers.info, bytes, agent->start.home,
                            agent_pulls(agent) ? bytes : 0, err);
}

static void work_begin(struct image_fetch *fetch)
{
    struct agent *agent = fetch->agent;

    pieces_close(fetch);
    fetch->home = agent->start.home;
    fetch->pulls = agent_pulls(agent);
    fetch->source = agent_pull_source(agent, fetch->arena);
    fetch->source.ahead = &fetch->ahead;
    fetch->result = 0;
    fetch->work = (struct work){ .run = run, .on_done = on_archive };
    fetch->works = true;
    agent_pull_submit(agent, &fetch->work, atomic_load(&fetch->ahead));
}

static void on_archive(struct work *work, bool canceled)
{
    struct image_fetch *fetch = (struct image_fetch *)work;

    bool hurried = canceled && fetch->hurried && !fetch->closed;
    bool gave_way = fetch->result == ERR_CANCELED && !atomic_load(&fetch->agent->pull_stop);

    fetch->works = fetch->hurried = false;
    agent_pull_ended(fetch->agent, work);
    if ((canceled && !hurried) || fetch->closed) {
        fetch_free(fetch);
        return;
    }
    if (hurried || gave_way) {
        work_begin(fetch);
        return;
    }
    if (fetch->result == ERR_OVERLOADED && !fetch->again &&
        agent_models_give_way(fetch->agent, &fetch->need)) {
        fetch->again = true;
        work_begin(fetch);
        return;
    }
    if (fetch->result < 0) {
        over(fetch, &fetch->err);
        return;
    }
    if (engine_info_room(&fetch->agent->containers.info, fetch->bytes, NULL, 0, &fetch->err) < 0) {
        pieces_close(fetch); /* others had it meanwhile: what was pulled holds the very room */
        if (fetch->pulls)
            pulled_remove(fetch);
        over(fetch, &fetch->err);
        return;
    }
    int64_t ms = LOAD_MS + (int64_t)(fetch->bytes / LOAD_BYTES_A_MS);
    fetch->call = engine_load(fetch->agent->containers.engine, fetch->pieces, fetch->piece_count,
                              ms, on_loaded, fetch);
}

static void on_seen(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct image_fetch *fetch = data;
    struct err why;
    (void)answer;

    fetch->call = NULL;
    if (err && err->code == ERR_NOT_FOUND && engine_room(fetch, &why) < 0) {
        fetch->room = !fetch->kept_out && agent_image_make_room(fetch->agent, fetch->revision);
        fetch->waits = fetch->room; /* another engine may come meanwhile */
        if (fetch->room)
            return;
        err = &why;
    }
    if (!err) {
        /* Perhaps from us, and not noted: who gave it a name keeps it anyway. */
        agent_image_given(fetch->agent, fetch->image->config.digest);
        has_it(fetch);
    } else if (err->code == ERR_NOT_FOUND) {
        work_begin(fetch);
    } else {
        over(fetch, err);
    }
}

static void look(struct image_fetch *fetch)
{
    char target[256];

    fetch->waits = fetch->room = false;
    snprintf(target, sizeof target, "/images/%.*s/json", SLICE_FMT(fetch->image->config.digest));
    fetch->call = engine_ask(fetch->agent->containers.engine, ENGINE_GET, target, (struct slice){},
                             ASK_MS, on_seen, fetch);
}

void agent_images_room_made(struct agent *agent, uint64_t revision, bool made)
{
    struct image_fetch *fetch;

    LIST_EACH (fetch, &agent->containers.fetches, struct image_fetch, link) {
        if (fetch->revision != revision || !fetch->room)
            continue;
        fetch->kept_out = !made;
        look(fetch);
        return;
    }
}

void agent_images_engine(struct agent *agent)
{
    struct agent_containers *containers = &agent->containers;
    struct image_fetch *fetch;
    struct err err;

    agent_images_look(agent);
    LIST_EACH (fetch, &containers->fetches, struct image_fetch, link) {
        if (!fetch->waits || containers->state == AGENT_ENGINE_ASKED)
            continue;
        if (agent_engine_here(agent)) {
            look(fetch);
            continue;
        }
        (void)err_set(&err, ERR_NOT_FOUND, "%s", containers->why);
        over(fetch, &err);
    }
}

void agent_image_fetch(struct agent *agent, uint64_t revision_uid)
{
    const struct pop_revision *revision = pop_revision_find(&agent->pop, revision_uid);
    struct image_fetch *fetch = mem_zalloc(sizeof *fetch);

    fetch->agent = agent;
    fetch->revision = revision_uid;
    fetch->image = revision->image;
    atomic_store(&fetch->ahead, revision->held);
    fetch->arena = arena_new();
    fetch->waits = true;
    list_append(&agent->containers.fetches, &fetch->link);
    agent_engine_want(agent);
    agent_images_engine(agent);
}

void agent_image_awaited(struct agent *agent, uint64_t revision)
{
    struct image_fetch *fetch;

    LIST_EACH (fetch, &agent->containers.fetches, struct image_fetch, link) {
        if (fetch->revision != revision || !atomic_exchange(&fetch->ahead, false))
            continue;
        fetch->hurried = fetch->works;
        if (fetch->works) /* what runs already goes on */
            work_cancel(agent_pull_pool(agent), &fetch->work);
    }
}

void agent_images_close(struct agent *agent)
{
    struct image_fetch *fetch;

    LIST_EACH (fetch, &agent->containers.fetches, struct image_fetch, link) {
        fetch->closed = true;
        if (fetch->works)
            list_remove(&fetch->link);
        else
            fetch_free(fetch);
    }
    free(take_ptr(agent->containers.given));
    agent->containers.given_count = 0;
}
