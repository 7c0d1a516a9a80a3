/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model's files to control: each a blob by its digest, sent only when control lacks it; a folder is
 * an OCI image manifest over its files (docs/api.md).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/evp.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "cli/cli.h"
#include "sys/fd.h"

enum { FILES_MAX = 1000, FOLDER_DEPTH_MAX = 8, HASH_BYTES = 1 << 20, DIGEST_TEXT = 7 + 64 + 1 };

struct model_file {
    const char *path;   /* in the folder */
    const char *digest;
    uint64_t bytes;
};

static void digest_text(const unsigned char *hash, char text[static DIGEST_TEXT])
{
    size_t used = (size_t)snprintf(text, DIGEST_TEXT, "sha256:");
    for (int i = 0; i < 32; i++)
        used += (size_t)snprintf(text + used, DIGEST_TEXT - used, "%02x", hash[i]);
}

static int digest_of_file(struct cli *cli, const char *path, int fd, uint64_t size,
                          const char **ret, struct err *err)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    struct cli_progress progress;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    auto_free char *buffer = mem_alloc(HASH_BYTES);
    uint64_t done = 0;
    ssize_t got;
    if (!context || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
        mem_abort(0);
    cli_progress_begin(&progress, cli, "hashing");
    while ((got = pread(fd, buffer, HASH_BYTES, (off_t)done)) > 0) {
        EVP_DigestUpdate(context, buffer, (size_t)got);
        done += (uint64_t)got;
        cli_progress_set(&progress, done, size);
    }
    int error = errno;
    cli_progress_end(&progress);
    EVP_DigestFinal_ex(context, hash, NULL);
    EVP_MD_CTX_free(context);
    if (got < 0)
        return err_set(err, ERR_INTERNAL, "reading '%s': %s", path, strerror(error));
    if (done != size)
        return err_set(err, ERR_CONFLICT, "'%s' changes while it is being read", path);
    char text[DIGEST_TEXT];
    digest_text(hash, text);
    *ret = arena_string(cli->arena, slice_of(text));
    return 0;
}

static const char *digest_of_bytes(struct cli *cli, struct slice bytes)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    char text[DIGEST_TEXT];
    EVP_Digest(bytes.data, bytes.size, hash, NULL, EVP_sha256(), NULL);
    digest_text(hash, text);
    return arena_string(cli->arena, slice_of(text));
}

/* ---- one blob ----------------------------------------------------------------------------------- */

static bool blob_known(struct cli *cli, const char *digest)
{
    struct control_answer answer;
    struct err ignored;
    const char *path = arena_format(cli->arena, "/api/v1/blobs/%s", digest);
    return control_call(cli, &CONTROL_REQUEST(.method = "HEAD", .path = path), &answer, &ignored) ==
           0;
}

static void on_sent(uint64_t sent, uint64_t total, void *data)
{
    cli_progress_set(data, sent, total);
}

static int blob_put_bytes(struct cli *cli, const char *digest, struct slice bytes, struct err *err)
{
    struct control_answer answer;
    return control_call(cli,
                        &CONTROL_REQUEST(.method = "PUT",
                                         .path = arena_format(cli->arena, "/api/v1/blobs/%s", digest),
                                         .content_type = "application/octet-stream", .body = bytes),
                        &answer, err);
}

static int blob_put_file(struct cli *cli, const char *digest, int fd, uint64_t size,
                         struct err *err)
{
    struct cli_progress progress;
    struct control_answer answer;
    if (size == 0)
        return blob_put_bytes(cli, digest, SLICE(""), err);
    cli_progress_begin(&progress, cli, "uploading");
    int r = control_call(cli,
                         &CONTROL_REQUEST(.method = "PUT",
                                          .path = arena_format(cli->arena, "/api/v1/blobs/%s", digest),
                                          .content_type = "application/octet-stream", .body_fd = fd,
                                          .body_bytes = size, .timeout_ms = -1,
                                          .on_progress = on_sent, .data = &progress),
                         &answer, err);
    cli_progress_end(&progress);
    return r;
}

static int file_upload(struct cli *cli, const char *path, const char **ret_digest,
                       uint64_t *ret_bytes, struct err *err)
{
    struct stat st;
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_FORBIDDEN, "opening '%s': %s",
                       ERR_TEXT(path), strerror(errno));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(err, ERR_BAD_INPUT, "'%s' is not a regular file", ERR_TEXT(path));
    int r = digest_of_file(cli, path, fd, (uint64_t)st.st_size, ret_digest, err);
    if (r < 0)
        return r;
    *ret_bytes = (uint64_t)st.st_size;
    if (blob_known(cli, *ret_digest))
        return 0;
    r = blob_put_file(cli, *ret_digest, fd, (uint64_t)st.st_size, err);
    return r < 0 ? err_wrap(err, "'%s'", ERR_TEXT(path)) : 0;
}

/* ---- a folder ----------------------------------------------------------------------------------- */

struct folder {
    struct cli *cli;
    const char *root;
    struct model_file files[FILES_MAX];
    size_t count;
};

static int folder_walk(struct folder *folder, const char *inside, int depth, struct err *err);

static int folder_entry(struct folder *folder, const char *inside, int depth, struct err *err)
{
    struct stat st;
    struct arena *arena = folder->cli->arena;
    const char *path = arena_format(arena, "%s/%s", folder->root, inside);
    if (stat(path, &st) < 0)
        return err_set(err, ERR_BAD_INPUT, "'%s': %s", ERR_TEXT(path), strerror(errno));
    if (S_ISDIR(st.st_mode))
        return folder_walk(folder, inside, depth + 1, err);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_BAD_INPUT, "'%s' is neither a file nor a folder", ERR_TEXT(path));
    if (folder->count == FILES_MAX)
        return err_set(err, ERR_TOO_LARGE, "more than %d files in the model's folder", FILES_MAX);
    struct model_file *file = &folder->files[folder->count++];
    file->path = inside;
    return file_upload(folder->cli, path, &file->digest, &file->bytes, err);
}

static int folder_walk(struct folder *folder, const char *inside, int depth, struct err *err)
{
    struct arena *arena = folder->cli->arena;
    const char *path = inside[0] ? arena_format(arena, "%s/%s", folder->root, inside) : folder->root;
    if (depth > FOLDER_DEPTH_MAX)
        return err_set(err, ERR_BAD_INPUT, "folders in the model's folder are too deep");
    DIR *dir = opendir(path);
    if (!dir)
        return err_set(err, ERR_BAD_INPUT, "'%s': %s", ERR_TEXT(path), strerror(errno));
    const struct dirent *entry;
    int r = 0;
    while (r == 0 && (entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue; /* hidden files are no part of a model */
        const char *name = inside[0] ? arena_format(arena, "%s/%s", inside, entry->d_name)
                                     : arena_string(arena, slice_of(entry->d_name));
        r = folder_entry(folder, name, depth, err);
    }
    closedir(dir);
    return r;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct model_file *)a)->path, ((const struct model_file *)b)->path);
}

static struct slice manifest_of(struct folder *folder)
{
    struct json_writer w;
    json_begin(&w, folder->cli->arena, 0);
    json_object_begin(&w);
    json_member_u64(&w, "schemaVersion", 2);
    json_member_text(&w, "mediaType", "application/vnd.oci.image.manifest.v1+json");
    json_member_text(&w, "artifactType", "application/vnd.perigee.model.v1");
    json_key(&w, "config"); /* the empty descriptor of the OCI image spec */
    json_raw(&w, SLICE("{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\"digest\":\"sha256:"
                       "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\","
                       "\"size\":2,\"data\":\"e30=\"}"));
    json_key(&w, "layers");
    json_array_begin(&w);
    for (size_t i = 0; i < folder->count; i++) {
        const struct model_file *file = &folder->files[i];
        json_object_begin(&w);
        json_member_text(&w, "mediaType", "application/octet-stream");
        json_member_text(&w, "digest", file->digest);
        json_member_u64(&w, "size", file->bytes);
        json_key(&w, "annotations");
        json_object_begin(&w);
        json_member_text(&w, "org.opencontainers.image.title", file->path);
        json_object_end(&w);
        json_object_end(&w);
    }
    json_array_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

static int folder_upload(struct cli *cli, const char *path, const char **ret_digest,
                         struct err *err)
{
    struct folder *folder = ARENA_NEW(cli->arena, struct folder);
    folder->cli = cli;
    folder->root = path;
    int r = folder_walk(folder, "", 0, err);
    if (r < 0)
        return r;
    if (folder->count == 0)
        return err_set(err, ERR_BAD_INPUT, "'%s' has no file in it", ERR_TEXT(path));
    qsort(folder->files, folder->count, sizeof folder->files[0], by_path);
    struct slice manifest = manifest_of(folder);
    *ret_digest = digest_of_bytes(cli, manifest);
    return blob_known(cli, *ret_digest) ? 0 : blob_put_bytes(cli, *ret_digest, manifest, err);
}

int control_upload_model(struct cli *cli, const char *path, const char **ret_digest,
                         struct err *err)
{
    struct stat st;
    uint64_t bytes;
    if (stat(path, &st) < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_FORBIDDEN, "model '%s': %s",
                       ERR_TEXT(path), strerror(errno));
    if (S_ISDIR(st.st_mode))
        return folder_upload(cli, path, ret_digest, err);
    return file_upload(cli, path, ret_digest, &bytes, err);
}
