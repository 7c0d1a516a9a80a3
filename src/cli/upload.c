/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model's files to control: each a blob by its digest, sent only when control lacks it; a folder
 * is an OCI image manifest over its files (docs/api.md).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "cli/cli.h"
#include "store/digest.h"
#include "store/manifest.h"
#include "sys/fd.h"

enum { FOLDER_DEPTH_MAX = 8, HASH_BYTES = 1 << 20 };

static int digest_of_file(struct cli *cli, const char *path, int fd, uint64_t size,
                          const char **ret, struct err *err)
{
    struct cli_progress progress;
    struct digest *digest = digest_new();
    auto_free char *buffer = mem_alloc(HASH_BYTES);
    char text[DIGEST_TEXT];
    uint64_t done = 0;
    ssize_t got;
    cli_progress_begin(&progress, "hashing");
    while ((got = pread(fd, buffer, HASH_BYTES, (off_t)done)) > 0) {
        digest_add(digest, buffer, (size_t)got);
        done += (uint64_t)got;
        cli_progress_set(&progress, done, size);
    }
    int error = errno;
    cli_progress_end(&progress);
    *ret = arena_string(cli->arena, slice_of(digest_end(digest, text)));
    digest_free(digest);
    if (got < 0)
        return err_set(err, ERR_INTERNAL, "reading '%s': %s", path, strerror(error));
    if (done != size)
        return err_set(err, ERR_CONFLICT, "'%s' changes while it is being read", path);
    return 0;
}

/* ---- one blob -------------------------------------------------------------------------------- */

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
    return control_call(
        cli,
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
    cli_progress_begin(&progress, "uploading");
    const struct control_request request = {
        .method = "PUT",
        .path = arena_format(cli->arena, "/api/v1/blobs/%s", digest),
        .content_type = "application/octet-stream",
        .body_fd = fd,
        .body_bytes = size,
        .timeout_ms = -1,
        .on_progress = on_sent,
        .data = &progress,
    };
    int r = control_call(cli, &request, &answer, err);
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

/* ---- a folder -------------------------------------------------------------------------------- */

struct folder {
    struct cli *cli;
    const char *root;
    struct manifest manifest;
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
    if (folder->manifest.count == MANIFEST_FILES_MAX)
        return err_set(err, ERR_TOO_LARGE, "more than %d files in the model's folder",
                       MANIFEST_FILES_MAX);
    struct manifest_file *file = &folder->manifest.files[folder->manifest.count++];
    const char *digest;
    int r = file_upload(folder->cli, path, &digest, &file->bytes, err);
    if (r < 0)
        return r;
    file->path = slice_of(inside);
    file->digest = slice_of(digest);
    return 0;
}

static int folder_walk(struct folder *folder, const char *inside, int depth, struct err *err)
{
    struct arena *arena = folder->cli->arena;
    const char *path =
        inside[0] ? arena_format(arena, "%s/%s", folder->root, inside) : folder->root;
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

static int folder_upload(struct cli *cli, const char *path, const char **ret_digest,
                         struct err *err)
{
    struct folder *folder = ARENA_NEW(cli->arena, struct folder);
    folder->cli = cli;
    folder->root = path;
    folder->manifest.files = ARENA_ARRAY(cli->arena, struct manifest_file, MANIFEST_FILES_MAX);
    int r = folder_walk(folder, "", 0, err);
    if (r < 0)
        return r;
    if (folder->manifest.count == 0)
        return err_set(err, ERR_BAD_INPUT, "'%s' has no file in it", ERR_TEXT(path));
    struct slice manifest;
    char text[DIGEST_TEXT];
    r = manifest_print(cli->arena, &folder->manifest, &manifest, err);
    if (r < 0)
        return err_wrap(err, "'%s'", ERR_TEXT(path));
    *ret_digest = arena_string(cli->arena, slice_of(digest_of(manifest, text)));
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
