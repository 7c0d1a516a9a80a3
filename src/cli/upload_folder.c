/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder as a model: each of its files a blob, and an OCI image manifest over them (docs/api.md).
 *
 * The folder may be somebody else's work, the files around it are not: what a link names is taken
 * where it lies in the folder as well, and refused where it leads out. The one exception is a
 * snapshot of Hugging Face's cache, whose files are links to ../../blobs/HEX of the same model. A
 * file is asked where it lies after it was opened, so that no link can be changed in between.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/upload.h"
#include "store/digest.h"
#include "store/manifest.h"
#include "sys/fd.h"

enum { FOLDER_DEPTH_MAX = 8, OWN_PATH_BYTES = 64 };

struct folder {
    struct cli *cli;
    const char *path;    /* as it was given */
    const char *root;    /* where it lies, and a slash */
    struct slice cached; /* .../models--NAME/blobs/ where it is a snapshot of that cache */
    struct manifest manifest;
};

/* ---- where files lie ------------------------------------------------------------------------- */

static const char *own_path(char text[static OWN_PATH_BYTES], int fd)
{
    (void)snprintf(text, OWN_PATH_BYTES, "/proc/self/fd/%d", fd);
    return text;
}

/* Of what is open, without links; NULL: it is not to be had. */
static const char *real_path(struct arena *arena, int fd)
{
    char own[OWN_PATH_BYTES], text[PATH_MAX];
    ssize_t size = readlink(own_path(own, fd), text, sizeof text);
    return size > 0 && (size_t)size < sizeof text
               ? arena_string(arena, (struct slice){ text, (size_t)size })
               : NULL;
}

/* .../models--NAME/snapshots/REVISION, or below it. */
static struct slice cache_of(struct arena *arena, const char *root)
{
    static const char between[] = "/snapshots/";
    for (const char *at = root; (at = strstr(at, "/models--")); at++) {
        const char *end = strchr(at + 1, '/');
        if (end && strncmp(end, between, sizeof between - 1) == 0)
            return slice_of(arena_format(arena, "%.*s/blobs/", (int)(end - root), root));
    }
    return (struct slice){};
}

static bool is_cached(const struct folder *folder, const char *real)
{
    size_t size = folder->cached.size;
    return size && strncmp(real, folder->cached.data, size) == 0 && real[size] &&
           real[size + strspn(real + size, "0123456789abcdef")] == '\0';
}

static int check_inside(const struct folder *folder, const char *path, int fd, struct err *err)
{
    const char *real = real_path(folder->cli->arena, fd);
    if (!real)
        return err_set(err, ERR_INTERNAL, "'%s': /proc does not say where it lies", ERR_TEXT(path));
    size_t size = strlen(folder->root);
    bool itself = strlen(real) == size - 1 && memcmp(real, folder->root, size - 1) == 0;
    if (itself || strncmp(real, folder->root, size) == 0 || is_cached(folder, real))
        return 0;
    return err_set(err, ERR_BAD_INPUT,
                   "'%s' leads to '%s', out of the model's folder; put the file itself there",
                   ERR_TEXT(path), ERR_TEXT(real));
}

/* ---- a folder and what is in it -------------------------------------------------------------- */

static int folder_walk(struct folder *folder, const char *inside, int fd, int depth,
                       struct err *err);

static int folder_file(struct folder *folder, const char *inside, const char *path, int fd,
                       struct err *err)
{
    if (folder->manifest.count == MANIFEST_FILES_MAX)
        return err_set(err, ERR_TOO_LARGE, "more than %d files in the model's folder",
                       MANIFEST_FILES_MAX);
    struct manifest_file *file = &folder->manifest.files[folder->manifest.count++];
    const char *digest;
    int r = upload_file(folder->cli, path, fd, &digest, &file->bytes, err);
    if (r < 0)
        return r;
    file->path = slice_of(inside);
    file->digest = slice_of(digest);
    return 0;
}

static int folder_entry(struct folder *folder, const char *inside, int depth, struct err *err)
{
    struct stat st;
    char own[OWN_PATH_BYTES];
    const char *path = arena_format(folder->cli->arena, "%s/%s", folder->path, inside);
    auto_close int place = open(path, O_PATH | O_CLOEXEC);
    if (place < 0 || fstat(place, &st) < 0)
        return err_set(err, ERR_BAD_INPUT, "'%s': %s", ERR_TEXT(path), strerror(errno));
    int r = check_inside(folder, path, place, err);
    if (r < 0)
        return r;
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        return err_set(err, ERR_BAD_INPUT, "'%s' is neither a file nor a folder", ERR_TEXT(path));
    auto_close int fd = open(own_path(own, place), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, ERR_FORBIDDEN, "opening '%s': %s", ERR_TEXT(path), strerror(errno));
    return S_ISDIR(st.st_mode) ? folder_walk(folder, inside, take_fd(fd), depth + 1, err)
                               : folder_file(folder, inside, path, fd, err);
}

/* Takes fd. */
static int folder_walk(struct folder *folder, const char *inside, int fd, int depth,
                       struct err *err)
{
    struct arena *arena = folder->cli->arena;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return err_set(err, ERR_INTERNAL, "'%s': %s", ERR_TEXT(folder->path), strerror(errno));
    }
    const struct dirent *entry;
    int r = depth > FOLDER_DEPTH_MAX
                ? err_set(err, ERR_BAD_INPUT, "folders in the model's folder are too deep")
                : 0;
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

int upload_folder(struct cli *cli, const char *path, const char **ret_digest, struct err *err)
{
    struct arena *arena = cli->arena;
    struct folder *folder = ARENA_NEW(arena, struct folder);
    auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const char *real = fd < 0 ? NULL : real_path(arena, fd);
    if (!real)
        return err_set(err, ERR_BAD_INPUT, "'%s': %s", ERR_TEXT(path), strerror(errno));
    folder->cli = cli;
    folder->path = path;
    folder->root = arena_format(arena, "%s/", strcmp(real, "/") == 0 ? "" : real);
    folder->cached = cache_of(arena, folder->root);
    folder->manifest.files = ARENA_ARRAY(arena, struct manifest_file, MANIFEST_FILES_MAX);
    int r = folder_walk(folder, "", take_fd(fd), 0, err);
    if (r < 0)
        return r;
    if (folder->manifest.count == 0)
        return err_set(err, ERR_BAD_INPUT, "'%s' has no file in it", ERR_TEXT(path));
    struct slice manifest;
    char text[DIGEST_TEXT];
    r = manifest_print(arena, &folder->manifest, &manifest, err);
    if (r < 0)
        return err_wrap(err, "'%s'", ERR_TEXT(path));
    *ret_digest = arena_string(arena, slice_of(digest_of(manifest, text)));
    return upload_text(cli, manifest, *ret_digest, err);
}
