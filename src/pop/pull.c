/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blobs from control, for a PoP with a disk of its own: a model at a time, several of its files at
 * once, each on a thread of its own, gone on with where they were cut, believed once their bytes
 * have the digest that names them. The model's folder is made of links to them and keeps the bytes;
 * the blobs themselves go when it is there.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "http/fetch.h"
#include "io/work.h"
#include "pop/agent.h"
#include "store/blobs.h"
#include "store/manifest.h"
#include "sys/fd.h"
#include "sys/room.h"

enum { PULL_IDLE_MS = 30'000, PULL_HANDS = 4 };

#define PULL_LEFT_NS                                                                               \
    (INT64_C(24) * 3600 * ENV_S) /* what nobody has gone on with for so long goes */

struct pull {
    struct work work;
    struct agent *agent;
    uint64_t revision;
    /* Copies: the thread sees nothing of the agent's but its stop. */
    struct arena *arena;
    const char *home, *url, *authorization;
    const atomic_bool *ahead; /* NULL: it is awaited */
    struct slice digest;
    int64_t before_ns; /* what was left of earlier ones since then goes */
    const char *folder, *file;
    struct room_need need;
    bool sized; /* it is known how many bytes come */
    struct err err;
    int result;
};

/* ---- on the thread --------------------------------------------------------------------------- */

struct piece {
    struct pull *pull;
    struct blob_upload *upload;
    struct err err;
    int result;
};

static bool gives_way(const struct pull *pull)
{
    return pull->ahead && atomic_load(pull->ahead) && atomic_load(&pull->agent->pulls_awaited) > 0;
}

static bool on_body(struct slice bytes, void *data)
{
    struct piece *piece = data;
    if (atomic_load(&piece->pull->agent->pull_stop))
        piece->result = err_set(&piece->err, ERR_CANCELED, "the agent ends");
    else if (gives_way(piece->pull))
        piece->result = err_set(&piece->err, ERR_CANCELED, "it gives way to what is waited for");
    else
        piece->result = blob_upload_write(piece->upload, bytes.data, bytes.size, &piece->err);
    return piece->result == 0;
}

static uint64_t have(struct blobs *blobs, struct slice digest)
{
    uint64_t bytes;
    struct err ignored;
    if (blobs_find(blobs, digest, &bytes, &ignored) == 0)
        return bytes;
    return blob_upload_have(blobs, digest);
}

/* It is known what comes: what is kept beside it makes room, where it is to. There is room for what
 * is not here yet, or nothing of it is fetched. */
static int coming(struct pull *pull, uint64_t bytes, uint64_t here, struct err *err)
{
    pull->sized = true;
    pull->need.bytes = bytes > here ? bytes - here : 0;
    atomic_store(&pull->agent->pull_coming, bytes);
    agent_models_collect_soon(pull->agent);
    int r = room_check(pull->home, pull->need.bytes, err);
    pull->need.refused = r < 0;
    return r;
}

/* The same for the files of a manifest, or for an image's blobs. */
static int all_coming(struct pull *pull, struct blobs *blobs, const struct manifest *manifest,
                      struct err *err)
{
    uint64_t here = 0;
    for (size_t i = 0; i < manifest->count; i++)
        here += have(blobs, manifest->files[i].digest);
    return coming(pull, manifest->bytes, here, err);
}

/* How large it is, by asking for its head. */
static int blob_size(struct pull *pull, const char *url, const char *const *headers,
                     uint64_t *ret_bytes, struct err *err)
{
    struct fetch_answer answer;
    const struct fetch_request request = {
        .method = "HEAD",
        .url = url,
        .headers = headers,
        .body_fd = -1,
        .timeout_ms = PULL_IDLE_MS,
    };
    int r = fetch(pull->arena, &request, &answer, err);
    if (r < 0)
        return err_wrap(err, "control");
    if (answer.status != 200)
        return err_set(err, answer.status == 404 ? ERR_NOT_FOUND : ERR_INTERNAL,
                       "control answers %d for blob %.*s", answer.status, SLICE_FMT(pull->digest));
    if (!slice_u64(fetch_header_get(&answer, "Content-Length"), ret_bytes))
        return err_set(err, ERR_INTERNAL, "control does not say how large the blob is");
    return 0;
}

static int blob_body(struct pull *pull, struct piece *piece, const char *url,
                     const char *const *headers, struct err *err)
{
    struct fetch_answer answer;
    uint64_t from = blob_upload_offset(piece->upload);
    const struct fetch_request request = {
        .method = "GET",
        .url = url,
        .headers = headers,
        .body_fd = -1,
        .idle_ms = PULL_IDLE_MS,
        .on_body = on_body,
        .body_status = from ? 206 : 200, /* a whole one does not belong behind what is there */
        .data = piece,
    };
    int r = fetch(pull->arena, &request, &answer, err);
    if (piece->result < 0) {
        *err = piece->err;
        return piece->result;
    }
    if (r < 0)
        return err_wrap(err, "control");
    if (answer.status != request.body_status)
        return err_set(err, from && answer.status == 200 ? ERR_PRECONDITION : ERR_INTERNAL,
                       "control answers %d for a blob, from byte %llu on", answer.status,
                       (unsigned long long)from);
    return 0;
}

/* From `offset` on; it is there whole afterwards. */
static int blob_rest(struct pull *pull, struct blobs *blobs, struct slice digest, const char *url,
                     uint64_t offset, uint64_t bytes, struct err *err)
{
    const char *headers[3] = { pull->authorization };
    struct piece piece = { .pull = pull };
    int r = blob_upload_begin(blobs, digest, offset, bytes, &offset, &piece.upload, err);
    if (r < 0)
        return r;
    if (offset)
        headers[1] = arena_format(pull->arena, "Range: bytes=%llu-", (unsigned long long)offset);
    if (offset < bytes)
        r = blob_body(pull, &piece, url, headers, err);
    if (r == 0 && blob_upload_offset(piece.upload) < bytes)
        r = err_set(err, ERR_INTERNAL, "control sent %llu of %llu bytes",
                    (unsigned long long)blob_upload_offset(piece.upload),
                    (unsigned long long)bytes);
    if (r == 0)
        r = blob_upload_finish(piece.upload, err);
    blob_upload_free(piece.upload);
    return r;
}

static int blob_pull(struct pull *pull, struct blobs *blobs, struct slice digest, struct err *err)
{
    uint64_t bytes, offset = blob_upload_have(blobs, digest);
    const char *headers[3] = { pull->authorization };
    const char *url =
        arena_format(pull->arena, "%s/api/v1/blobs/%.*s", pull->url, SLICE_FMT(digest));
    int r = blobs_find(blobs, digest, &bytes, err);
    if (r != ERR_NOT_FOUND)
        return r;
    r = blob_size(pull, url, headers, &bytes, err);
    if (r < 0)
        return r;
    if (offset > bytes)
        offset = 0;
    if (!pull->sized && (r = coming(pull, bytes, offset, err)) < 0)
        return r;
    r = blob_rest(pull, blobs, digest, url, offset, bytes, err);
    if (r == ERR_PRECONDITION) /* something between here and control knows no ranges */
        r = blob_rest(pull, blobs, digest, url, 0, bytes, err);
    return r < 0 ? err_wrap(err, "pulling %.*s", SLICE_FMT(digest)) : 0;
}

/* A folder's manifest names further blobs. */
static int manifest_of(struct pull *pull, struct blobs *blobs, struct manifest *ret,
                       struct err *err)
{
    uint64_t bytes;
    char *data = NULL;
    size_t size = 0;
    *ret = (struct manifest){};
    int r = blobs_find(blobs, pull->digest, &bytes, err);
    if (r < 0 || bytes > MANIFEST_BYTES_MAX)
        return r;
    r = blobs_load(blobs, pull->digest, MANIFEST_BYTES_MAX, &data, &size, err);
    if (r < 0)
        return r;
    struct slice text = arena_copy(pull->arena, (struct slice){ data, size });
    free(data);
    return manifest_is(text) ? manifest_parse(pull->arena, text, ret, err) : 0;
}

/* ---- several at once ------------------------------------------------------------------------- */

struct crew {
    const struct pull *pull;
    struct blobs *blobs;
    const struct manifest *manifest;
    _Atomic size_t next; /* file that nobody has taken */
    atomic_bool over;    /* one has failed: nobody takes more */
};

struct hand {
    struct crew *crew;
    pthread_t thread;
    struct err err;
    int result;
};

/* Two files may be the same bytes: the first one brings them. */
static bool came_before(const struct manifest *manifest, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (slice_equal(manifest->files[i].digest, manifest->files[index].digest))
            return true;
    return false;
}

static void *hand_run(void *data)
{
    struct hand *hand = data;
    struct crew *crew = hand->crew;
    struct pull own = *crew->pull;
    size_t i;
    own.arena = arena_new();
    while (hand->result == 0 && !atomic_load(&crew->over) &&
           (i = atomic_fetch_add(&crew->next, 1)) < crew->manifest->count)
        if (!came_before(crew->manifest, i))
            hand->result =
                blob_pull(&own, crew->blobs, crew->manifest->files[i].digest, &hand->err);
    if (hand->result < 0)
        atomic_store(&crew->over, true);
    arena_free(own.arena);
    return NULL;
}

static int files_pull(struct pull *pull, struct blobs *blobs, const struct manifest *manifest,
                      struct err *err)
{
    struct crew crew = { .pull = pull, .blobs = blobs, .manifest = manifest };
    struct hand hands[PULL_HANDS] = {};
    size_t count = 1;
    int r = 0;
    for (size_t i = 0; i < PULL_HANDS; i++)
        hands[i].crew = &crew;
    while (count < PULL_HANDS && count < manifest->count &&
           pthread_create(&hands[count].thread, NULL, hand_run, &hands[count]) == 0)
        count++;
    (void)hand_run(&hands[0]); /* this thread's own; alone where no other could be had */
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            (void)pthread_join(hands[i].thread, NULL);
        if (r == 0 && (r = hands[i].result) < 0)
            *err = hands[i].err;
    }
    return r;
}

static int all_pull(struct pull *pull, struct blobs *blobs, struct err *err)
{
    struct manifest manifest = {};
    int r = blob_pull(pull, blobs, pull->digest, err);
    if (r == 0)
        r = manifest_of(pull, blobs, &manifest, err);
    if (r == 0 && manifest.count)
        r = all_coming(pull, blobs, &manifest, err);
    if (r == 0)
        r = files_pull(pull, blobs, &manifest, err);
    atomic_store(&pull->agent->pull_coming, 0); /* its folder counts by itself */
    if (r == 0)
        r = agent_model_folder(pull->home, pull->digest, pull->arena, &pull->folder, &pull->file,
                               err);
    if (r < 0)
        return r;
    struct err ignored;
    for (size_t i = 0; i < manifest.count; i++)
        (void)!blobs_delete(blobs, manifest.files[i].digest, &ignored);
    (void)!blobs_delete(blobs, pull->digest, &ignored);
    return 0;
}

/* What pulls that failed had left. */
static void sweep(struct blobs *blobs, int64_t before_ns)
{
    unsigned left = blobs_sweep_uploads(blobs, before_ns) + blobs_sweep(blobs, before_ns);
    if (left)
        log_info("pop", "what pulls that failed had left is removed", LOG_U("files", left));
}

int agent_pull_blobs(const struct pull_source *source, struct arena *arena,
                     const struct slice *digests, size_t count, uint64_t bytes,
                     struct room_need *ret_need, struct err *err)
{
    struct pull pull = { .agent = source->agent,
                         .arena = arena,
                         .home = source->home,
                         .url = source->url,
                         .authorization = source->authorization,
                         .ahead = source->ahead };
    struct manifest manifest = { .files = ARENA_ARRAY(arena, struct manifest_file, count + 1) };
    struct blobs *blobs;
    *ret_need = (struct room_need){};
    int r = blobs_open(pull.home, NULL, &blobs, err);
    if (r < 0)
        return r;
    sweep(blobs, source->before_ns);
    for (; manifest.count < count; manifest.count++)
        manifest.files[manifest.count].digest = digests[manifest.count];
    manifest.bytes = bytes;
    r = all_coming(&pull, blobs, &manifest, err);
    if (r == 0)
        r = files_pull(&pull, blobs, &manifest, err);
    atomic_store(&pull.agent->pull_coming, 0);
    *ret_need = pull.need;
    blobs_close(blobs);
    return r;
}

static void run(struct work *work)
{
    struct pull *pull = (struct pull *)work; /* its first member */
    struct blobs *blobs;
    /* A folder that is there has all in it. */
    if (agent_model_folder_find(pull->home, pull->digest, pull->arena, &pull->folder, &pull->file))
        return;
    pull->result = blobs_open(pull->home, NULL, &blobs, &pull->err);
    if (pull->result < 0)
        return;
    sweep(blobs, pull->before_ns);
    pull->result = all_pull(pull, blobs, &pull->err);
    blobs_close(blobs);
}

/* ---- on the loop ----------------------------------------------------------------------------- */

static void on_done(struct work *work, bool canceled)
{
    struct pull *pull = (struct pull *)work;
    struct agent *agent = pull->agent;
    struct pop_revision *revision =
        canceled ? NULL : pop_revision_find(&agent->pop, pull->revision);
    bool awaited = revision && revision->model_state == POP_MODEL_FETCHING;
    agent_pull_ended(agent, work);
    agent->pulls--;
    atomic_store(&agent->pull_coming, 0);
    if (awaited && pull->result == ERR_OVERLOADED && agent_models_give_way(agent, &pull->need)) {
        agent_pull(agent, pull->revision);
    } else if (awaited) {
        pop_model_fetched(revision, pull->folder, pull->file, pull->result < 0 ? &pull->err : NULL);
    }
    if (!canceled)
        agent_models_collect_soon(agent);
    arena_free(pull->arena);
    free(pull);
}

bool agent_pulls(const struct agent *agent)
{
    return agent->bearer[0] != '\0';
}

struct work_pool *agent_pull_pool(struct agent *agent)
{
    if (!agent->pull_pool)
        agent->pull_pool = work_pool_new("pull", 1);
    return agent->pull_pool;
}

struct pull_source agent_pull_source(struct agent *agent, struct arena *arena)
{
    return (struct pull_source){
        .agent = agent,
        .home = agent->start.home,
        .url = arena_string(arena, slice_of(agent->start.control)),
        .authorization = arena_format(arena, "Authorization: %s", agent->bearer),
        .before_ns = env_wall_ns(agent->env) - PULL_LEFT_NS,
    };
}

void agent_pull(struct agent *agent, uint64_t revision_uid)
{
    const struct pop_revision *revision = pop_revision_find(&agent->pop, revision_uid);
    struct pull *pull = mem_zalloc(sizeof *pull);
    agent->pulls++;
    pull->agent = agent;
    pull->revision = revision_uid;
    pull->arena = arena_new();
    struct pull_source source = agent_pull_source(agent, pull->arena);
    pull->home = source.home;
    pull->url = source.url;
    pull->authorization = source.authorization;
    pull->before_ns = source.before_ns;
    pull->digest = arena_copy(pull->arena, slice_of(revision->digest));
    pull->work.run = run;
    pull->work.on_done = on_done;
    agent_pull_submit(agent, &pull->work, false);
}

void agent_pull_submit(struct agent *agent, struct work *work, bool later)
{
    work->later = later;
    if (!later)
        atomic_fetch_add(&agent->pulls_awaited, 1);
    work_submit(agent_pull_pool(agent), agent->loop, work);
}

void agent_pull_ended(struct agent *agent, const struct work *work)
{
    if (!work->later)
        atomic_fetch_sub(&agent->pulls_awaited, 1);
}

void agent_pull_close(struct agent *agent)
{
    atomic_store(&agent->pull_stop, true);
    work_pool_free(agent->pull_pool);
    agent->pull_pool = NULL;
}
