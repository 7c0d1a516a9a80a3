/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model's files to control: each a blob by its digest, sent only when control lacks it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/upload.h"
#include "store/digest.h"
#include "sys/fd.h"

enum { HASH_BYTES = 1 << 20, TRIES_MAX = 6, TRY_AGAIN_MS = 300 };

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

/* Is it there? If not, *ret_have says how much of an earlier upload is. */
static bool blob_known(struct cli *cli, const char *digest, uint64_t *ret_have)
{
    struct control_answer answer;
    struct err ignored;
    uint64_t last;
    const char *path = arena_format(cli->arena, "/api/v1/blobs/%s", digest);
    *ret_have = 0;
    if (control_call(cli, &CONTROL_REQUEST(.method = "HEAD", .path = path), &answer, &ignored) == 0)
        return true;
    struct slice range = answer.range;
    if (slice_starts(range, SLICE("bytes=0-")) &&
        slice_u64((struct slice){ range.data + 8, range.size - 8 }, &last))
        *ret_have = last + 1;
    return false;
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

struct upload {
    struct cli *cli;
    struct cli_progress progress;
    const char *digest;
    int fd;
    uint64_t offset;      /* where it begins in the file */
    uint64_t bytes, from; /* where this try began */
};

static void on_sent(uint64_t sent, uint64_t total, void *data)
{
    struct upload *upload = data;
    (void)total;
    cli_progress_set(&upload->progress, upload->from + sent, upload->bytes);
}

static int upload_try(struct upload *upload, int *ret_status, struct err *err)
{
    struct control_answer answer;
    struct arena *arena = upload->cli->arena;
    const struct control_request request = {
        .method = "PUT",
        .path = arena_format(arena, "/api/v1/blobs/%s", upload->digest),
        .content_type = "application/octet-stream",
        .header = arena_format(arena, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
                               upload->from, upload->bytes - 1, upload->bytes),
        .body_fd = upload->fd,
        .body_offset = upload->offset + upload->from,
        .body_bytes = upload->bytes - upload->from,
        .timeout_ms = -1,
        .on_progress = on_sent,
        .data = upload,
    };
    int r = control_call(upload->cli, &request, &answer, err);
    *ret_status = answer.status;
    return r;
}

/* A broken line is taken up where it broke: control keeps what has come. */
static int blob_put_file(struct upload *upload, struct err *err)
{
    int r, status, tries = 0;
    if (upload->bytes == 0)
        return blob_put_bytes(upload->cli, upload->digest, SLICE(""), err);
    cli_progress_begin(&upload->progress, "uploading");
    for (;;) {
        uint64_t before = upload->from;
        if (upload->from >= upload->bytes)
            upload->from = 0; /* another file's: control compares when it is whole */
        r = upload_try(upload, &status, err);
        /* 409: the broken line's upload is not let go yet. */
        if (r == 0 || (status != 0 && status != 409) || ++tries == TRIES_MAX)
            break;
        (void)poll(NULL, 0, TRY_AGAIN_MS * tries);
        if (blob_known(upload->cli, upload->digest, &upload->from)) {
            r = 0;
            break;
        }
        if (upload->from > before)
            tries = 0;
    }
    cli_progress_end(&upload->progress);
    return r;
}

int upload_part(struct cli *cli, int fd, uint64_t offset, uint64_t bytes, const char *digest,
                struct err *err)
{
    struct upload upload = {
        .cli = cli, .digest = digest, .fd = fd, .offset = offset, .bytes = bytes
    };
    return blob_known(cli, digest, &upload.from) ? 0 : blob_put_file(&upload, err);
}

int upload_text(struct cli *cli, struct slice text, const char *digest, struct err *err)
{
    uint64_t have;
    return blob_known(cli, digest, &have) ? 0 : blob_put_bytes(cli, digest, text, err);
}

int upload_file(struct cli *cli, const char *path, int fd, const char **ret_digest,
                uint64_t *ret_bytes, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(err, ERR_BAD_INPUT, "'%s' is not a regular file", ERR_TEXT(path));
    int r = digest_of_file(cli, path, fd, (uint64_t)st.st_size, ret_digest, err);
    if (r < 0)
        return r;
    *ret_bytes = (uint64_t)st.st_size;
    r = upload_part(cli, fd, 0, *ret_bytes, *ret_digest, err);
    return r < 0 ? err_wrap(err, "'%s'", ERR_TEXT(path)) : 0;
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
        return upload_folder(cli, path, ret_digest, err);
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_FORBIDDEN, "opening '%s': %s",
                       ERR_TEXT(path), strerror(errno));
    return upload_file(cli, path, fd, ret_digest, &bytes, err);
}
