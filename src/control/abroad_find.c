/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tag is looked up once. What is small (indexes, manifests, a configuration) comes with it, so
 * that whoever deploys hears at once what is wrong with it; layers and files follow by themselves.
 */
#include <poll.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "control/abroad.h"
#include "control/artifact.h"
#include "control/pinned.h"
#include "http/fetch.h"
#include "io/loop.h"
#include "spec/reference.h"
#include "store/blobs.h"
#include "store/digest.h"
#include "store/image.h"
#include "store/oci.h"
#include "store/store.h"

enum {
    TRIES = 4,
    CALL_MS = 10'000,
    PAUSE_MS = 250, /* before the second try; then twice as long each time */
    PAUSE_STEP_MS = 50,
    DEPTH_MAX = 3, /* of indexes in indexes */
    DOCS_MAX = DEPTH_MAX + 3,
    NS_A_MS = 1'000'000,
};

struct finding {
    const struct abroad_ask *ask;
    struct elsewhere elsewhere;
    struct arena *arena;
    struct abroad_found *found;
    struct oci_manifest manifest; /* the last one */
    int64_t until_ns;
    bool image;
    struct err *err;
};

/* ---- one document ---------------------------------------------------------------------------- */

static bool stopped(const struct finding *finding)
{
    return atomic_load(finding->ask->stop);
}

/* False: there is no time left for it. */
static bool pause_for(const struct finding *finding, int64_t ms)
{
    if (loop_now_ns() + ms * NS_A_MS >= finding->until_ns)
        return false;
    for (; ms > 0 && !stopped(finding); ms -= PAUSE_STEP_MS)
        (void)poll(NULL, 0, PAUSE_STEP_MS);
    return !stopped(finding);
}

static int fetch_text(struct finding *finding, const char *path, uint64_t bytes_max,
                      struct fetch_answer *ret)
{
    static const char *const accept[] = {
        "Accept: application/vnd.oci.image.index.v1+json",
        "Accept: application/vnd.oci.image.manifest.v1+json",
        "Accept: application/vnd.docker.distribution.manifest.list.v2+json",
        "Accept: application/vnd.docker.distribution.manifest.v2+json",
        NULL,
    };
    struct elsewhere_trouble trouble;
    int64_t ms = PAUSE_MS;
    int r = 0;
    for (int i = 0; i < TRIES; i++, ms *= 2) {
        int64_t left_ms = (finding->until_ns - loop_now_ns()) / NS_A_MS;
        const struct elsewhere_call call = {
            .path = path,
            .accept = slice_starts(slice_of(path), SLICE("manifests/")) ? accept : NULL,
            .answer_bytes_max = bytes_max,
            .timeout_ms = left_ms < 1         ? 1
                          : left_ms < CALL_MS ? left_ms
                                              : CALL_MS,
        };
        r = elsewhere_call(&finding->elsewhere, &call, finding->arena, ret, &trouble, finding->err);
        if (r == 0 || trouble.lasting || r == ERR_TOO_LARGE || i + 1 == TRIES ||
            !pause_for(finding, trouble.retry_ms > ms ? trouble.retry_ms : ms))
            break;
    }
    return r;
}

static int keep_doc(struct finding *finding, struct slice digest, struct slice text)
{
    struct abroad_found *found = finding->found;
    if (found->doc_count == DOCS_MAX)
        return err_set(finding->err, ERR_BAD_INPUT, "it is an index in an index, %d deep",
                       (int)DEPTH_MAX);
    found->docs[found->doc_count++] = (struct abroad_doc){ digest, text };
    return 0;
}

/* By its digest: what is here already needs no asking. */
static int load_here(struct finding *finding, struct slice digest, size_t bytes_max,
                     struct slice *ret)
{
    char *data;
    size_t bytes;
    int r = blobs_load(finding->ask->blobs, digest, bytes_max, &data, &bytes, finding->err);
    if (r < 0)
        return r;
    *ret = arena_copy(finding->arena, (struct slice){ data, bytes });
    free(data);
    return 0;
}

static int check_digest(struct finding *finding, struct slice wanted, const char *got)
{
    return slice_is(wanted, got)
               ? 0
               : err_set(finding->err, ERR_BAD_INPUT, "%s sent other bytes than %.*s names",
                         finding->ask->registry.host, SLICE_FMT(wanted));
}

/* `wanted` empty: whatever the tag names. Without a Content-Type the document says it itself. */
static int get_manifest(struct finding *finding, struct slice wanted, struct slice tag,
                        struct slice *ret_digest, struct slice *ret_text, struct slice *ret_type)
{
    struct fetch_answer answer;
    char digest[DIGEST_TEXT];
    *ret_type = (struct slice){};
    if (wanted.size && load_here(finding, wanted, OCI_MANIFEST_BYTES_MAX, ret_text) == 0) {
        *ret_digest = wanted;
        return 0;
    }
    struct slice name = wanted.size ? wanted : tag;
    int r = fetch_text(finding, arena_format(finding->arena, "manifests/%.*s", SLICE_FMT(name)),
                       OCI_MANIFEST_BYTES_MAX, &answer);
    if (r < 0)
        return r;
    (void)digest_of(answer.body, digest);
    struct slice said = fetch_header_get(&answer, "Docker-Content-Digest");
    r = wanted.size ? check_digest(finding, wanted, digest) : 0;
    if (r == 0 && slice_starts(said, SLICE("sha256:"))) {
        r = digest_check(said, finding->err); /* it stands in an error */
        r = r < 0
                ? err_wrap(finding->err, "Docker-Content-Digest of %s", finding->ask->registry.host)
                : check_digest(finding, said, digest);
    }
    if (r < 0)
        return r;
    *ret_digest = arena_copy(finding->arena, slice_of(digest));
    *ret_text = answer.body;
    struct slice type = fetch_header_get(&answer, "Content-Type");
    if (slice_starts(type, SLICE("application/vnd."))) /* else it is some server's guess */
        *ret_type = type;
    return 0;
}

static int get_config(struct finding *finding, const struct oci_part *part)
{
    struct fetch_answer answer;
    char digest[DIGEST_TEXT];
    struct slice text;
    int r = digest_check(part->digest, finding->err);
    if (r < 0)
        return err_wrap(finding->err, "the configuration");
    if (part->bytes > IMAGE_CONFIG_BYTES_MAX)
        return err_set(finding->err, ERR_TOO_LARGE, "its configuration is above %d MiB",
                       IMAGE_CONFIG_BYTES_MAX >> 20);
    if (load_here(finding, part->digest, IMAGE_CONFIG_BYTES_MAX, &text) == 0)
        return keep_doc(finding, part->digest, text);
    r = fetch_text(finding, arena_format(finding->arena, "blobs/%.*s", SLICE_FMT(part->digest)),
                   IMAGE_CONFIG_BYTES_MAX, &answer);
    if (r == 0)
        r = check_digest(finding, part->digest, digest_of(answer.body, digest));
    return r < 0 ? r : keep_doc(finding, part->digest, answer.body);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int check_parts(struct finding *finding)
{
    const struct oci_manifest *manifest = &finding->manifest;
    for (size_t i = 1; i < manifest->count; i++) {
        const struct oci_part *part = &manifest->parts[i];
        int r = digest_check(part->digest, finding->err);
        if (r == 0)
            r = blobs_check_one(finding->ask->blobs, part->bytes, finding->err);
        if (r < 0)
            return err_wrap(finding->err, "layer %zu", i);
        if (part->elsewhere)
            return err_set(finding->err, ERR_NOT_SUPPORTED,
                           "layer %zu is not distributed with it, and is elsewhere", i);
    }
    finding->found->parts = manifest->parts + 1;
    finding->found->part_count = manifest->count - 1;
    return 0;
}

static int parse(struct finding *finding, struct slice text, struct slice type)
{
    return type.size
               ? oci_manifest_parse(finding->arena, text, type, &finding->manifest, finding->err)
               : pinned_parse(finding->arena, text, &finding->manifest, finding->err);
}

static int find_all(struct finding *finding, const struct reference *reference)
{
    struct abroad_found *found = finding->found;
    struct slice digest = reference->digest, text, type;
    for (int depth = 0;; depth++) {
        int r = get_manifest(finding, digest, reference->tag, &digest, &text, &type);
        if (r == 0)
            r = parse(finding, text, type);
        if (r == 0)
            r = keep_doc(finding, digest, text);
        if (r < 0)
            return r;
        if (depth == 0) {
            found->digest = digest;
            found->media_type = finding->manifest.media_type;
        }
        if (!finding->manifest.index || !finding->image)
            break;
        const struct oci_part *part = pinned_part(&finding->manifest);
        if (!part || depth == DEPTH_MAX)
            return 0; /* pinned_find() has the words for it */
        if ((r = digest_check(part->digest, finding->err)) < 0)
            return err_wrap(finding->err, "the index");
        digest = part->digest;
    }
    if (finding->manifest.index) /* of a model: likewise */
        return 0;
    int r = finding->image ? get_config(finding, &finding->manifest.parts[0]) : 0;
    return r < 0 ? r : check_parts(finding);
}

int abroad_find(const struct abroad_ask *ask, const struct reference *reference,
                struct slice written, bool image, struct arena *arena, struct abroad_found *ret,
                struct err *err)
{
    struct arena *secret = arena_new_secret();
    struct abroad_ask own = *ask;
    struct finding finding = {
        .ask = ask,
        .arena = arena,
        .found = ret,
        .until_ns = loop_now_ns() + INT64_C(1) * ABROAD_FIND_MS * NS_A_MS,
        .image = image,
        .err = err,
    };
    *ret = (struct abroad_found){
        .written = written,
        .host = slice_of(ask->registry.host),
        .repository = reference->path,
        .docs = ARENA_ARRAY(arena, struct abroad_doc, DOCS_MAX),
    };
    int r = abroad_unseal(&own, secret, err);
    if (r == 0) {
        elsewhere_open(&finding.elsewhere, &own.registry, arena_string(arena, reference->path),
                       ask->stop);
        r = find_all(&finding, reference);
        elsewhere_close(&finding.elsewhere);
    }
    arena_free(secret);
    return r < 0 ? err_wrap(err, "%s '%s'", image ? "image" : "model", ERR_SLICE(written)) : 0;
}

/* ---- kept ------------------------------------------------------------------------------------ */

/* How large it is, is what a registry says, until it is here. Where two of them differ the first
 * one stands: else who tells of a size that is wrong ends the copy of who told the right one. */
static int keep_origin(const struct artifact *artifact, const struct store_origin *origin,
                       struct err *err)
{
    struct store *store = artifact->store;
    struct store_origin before;
    uint64_t bytes;
    int r = blobs_find(artifact->blobs, origin->digest, &bytes, err);
    if (r == 0 && bytes != origin->bytes)
        return err_set(err, ERR_BAD_INPUT, "%.*s says that %.*s has %llu bytes, and it has %llu",
                       SLICE_FMT(origin->host), SLICE_FMT(origin->digest),
                       (unsigned long long)origin->bytes, (unsigned long long)bytes);
    if (r != ERR_NOT_FOUND)
        return r;
    r = store->origin_find(store, origin->digest, artifact->arena, &before, err);
    if (r < 0 && r != ERR_NOT_FOUND)
        return r;
    bool same = r == ERR_NOT_FOUND || before.bytes == origin->bytes ||
                (slice_equal(before.host, origin->host) &&
                 slice_equal(before.repository, origin->repository)); /* it says it anew */
    return same ? store->origin_put(store, origin, err)
                : err_set(err, ERR_CONFLICT,
                          "%.*s says that %.*s has %llu bytes, and %.*s, from which it is being "
                          "copied, %llu: one of them is wrong; try again once it is here",
                          SLICE_FMT(origin->host), SLICE_FMT(origin->digest),
                          (unsigned long long)origin->bytes, SLICE_FMT(before.host),
                          (unsigned long long)before.bytes);
}

int abroad_keep(const struct artifact *artifact, const struct abroad_found *found, struct err *err)
{
    struct store *store = artifact->store;
    int r = store->origin_prune(store, err);
    for (size_t i = 0; i < found->doc_count && r == 0; i++) {
        char digest[DIGEST_TEXT];
        const struct store_blob row = { found->docs[i].digest, found->docs[i].text.size,
                                        artifact->now_ns };
        r = blobs_put(artifact->blobs, found->docs[i].text, digest, err);
        if (r == 0)
            r = store->blob_put(store, &row, err);
    }
    for (size_t i = 0; i < found->part_count && r == 0; i++) {
        const struct store_origin origin = {
            .digest = found->parts[i].digest,
            .bytes = found->parts[i].bytes,
            .host = found->host,
            .repository = found->repository,
            .created_ns = artifact->now_ns,
        };
        r = keep_origin(artifact, &origin, err);
    }
    return r;
}

int abroad_coming(struct store *store, const struct store_revision *revision, struct arena *arena,
                  const char **ret, struct err *err)
{
    struct store_origin *origins;
    size_t count, own = 0;
    uint64_t bytes = 0;
    struct slice host = {};
    int r = store->origin_of(store, revision->endpoint_uid, arena, &origins, &count, err);
    for (size_t i = 0; r == 0 && i < count; i++)
        if (origins[i].number == revision->number) {
            host = origins[i].host;
            bytes += origins[i].bytes;
            own++;
        }
    *ret = own ? arena_format(arena, "revision %llu: %zu blob%s, %llu bytes, from %.*s",
                              (unsigned long long)revision->number, own, own == 1 ? "" : "s",
                              (unsigned long long)bytes, SLICE_FMT(host))
               : NULL;
    return r;
}
