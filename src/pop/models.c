/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model's files as a folder: HOME/models/HEX/, made of hard links to blobs, whole or not there.
 * The folder is all of the disk that a replica sees.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "pop/agent.h"
#include "store/blobs.h"
#include "store/manifest.h"
#include "sys/fd.h"

enum { FOLDER_DEPTH_MAX = 16 };

static int failed(const char *doing, const char *path, struct err *err)
{
    int e = errno;
    return err_set(err, e == ENOSPC || e == EDQUOT ? ERR_OVERLOADED : ERR_INTERNAL, "%s '%s': %s",
                   doing, path, strerror(e));
}

static int folder_make(const char *path, struct err *err)
{
    /* As root a replica has a user of its own, who must be able to read its model whatever the
     * umask; nobody else comes this far, as the home is closed. */
    if ((mkdir(path, 0755) == 0 && chmod(path, 0755) == 0) || errno == EEXIST)
        return 0;
    return failed("making", path, err);
}

static void folder_remove(const char *path, int depth)
{
    DIR *dir = depth < FOLDER_DEPTH_MAX ? opendir(path) : NULL;
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        char inside[MESSAGE_PATH_BYTES + 1024];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
        if (unlink(inside) < 0 && (errno == EISDIR || errno == EPERM))
            folder_remove(inside, depth + 1);
    }
    if (dir)
        closedir(dir);
    (void)rmdir(path);
}

void agent_model_folder_remove(const char *path)
{
    folder_remove(path, 0);
}

/* A hard link where the disk has them; blobs and models lie under one home, so it has. */
static int blob_link(const char *home, struct slice digest, const char *to, struct err *err)
{
    char from[MESSAGE_PATH_BYTES + 128];
    (void)slice_cut(&digest, ':');
    snprintf(from, sizeof from, "%s/blobs/sha256/%.*s", home, SLICE_FMT(digest));
    if (link(from, to) == 0)
        return 0;
    if (errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "blob sha256:%.*s is not on this PoP's disk",
                       SLICE_FMT(digest));
    return failed("linking", to, err);
}

/* Folders above a file of a manifest; its path was checked by manifest_parse(). */
static int parents_make(struct arena *arena, const char *root, struct slice path, struct err *err)
{
    for (size_t i = 0; i < path.size; i++)
        if (path.data[i] == '/') {
            int r = folder_make(arena_format(arena, "%s/%.*s", root, (int)i, path.data), err);
            if (r < 0)
                return r;
        }
    return 0;
}

static int manifest_fill(const char *home, struct arena *arena, const char *root, struct slice text,
                         struct err *err)
{
    struct manifest manifest;
    int r = manifest_parse(arena, text, &manifest, err);
    for (size_t i = 0; i < manifest.count && r == 0; i++) {
        const struct manifest_file *file = &manifest.files[i];
        r = parents_make(arena, root, file->path, err);
        if (r == 0)
            r = blob_link(home, file->digest,
                          arena_format(arena, "%s/%.*s", root, SLICE_FMT(file->path)), err);
    }
    return r;
}

static int folder_fill(const char *home, struct arena *arena, const char *root, struct slice digest,
                       struct err *err)
{
    struct blobs *blobs;
    int fd = -1, r = blobs_open(home, NULL, &blobs, err);
    if (r < 0)
        return r;
    uint64_t bytes;
    char *data = NULL;
    size_t size = 0;
    r = blobs_read(blobs, digest, &fd, &bytes, err);
    fd_close(&fd);
    bool manifest = false;
    if (r == 0 && bytes <= MANIFEST_BYTES_MAX) {
        r = blobs_load(blobs, digest, MANIFEST_BYTES_MAX, &data, &size, err);
        manifest = r == 0 && manifest_is((struct slice){ data, size });
    }
    if (r == 0 && manifest)
        r = manifest_fill(home, arena, root, (struct slice){ data, size }, err);
    else if (r == 0)
        r = blob_link(home, digest, arena_format(arena, "%s/model.onnx", root), err);
    free(data);
    blobs_close(blobs);
    return r;
}

/* model.onnx, or exactly one .onnx at the top. */
static int model_file_find(struct arena *arena, const char *folder, const char **ret,
                           struct err *err)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    const char *found = NULL;
    unsigned count = 0;
    bool named = false;
    if (!dir)
        return failed("opening", folder, err);
    while ((entry = readdir(dir))) {
        struct slice name = slice_of(entry->d_name);
        if (!slice_ends(name, SLICE(".onnx")) || name.size == 5)
            continue;
        count++;
        found = arena_string(arena, name);
        named = named || slice_is(name, "model.onnx");
    }
    closedir(dir);
    if (named) {
        *ret = "model.onnx";
        return 0;
    }
    if (count == 0)
        return err_set(err, ERR_BAD_INPUT, "the model's folder has no .onnx file at its top");
    if (count > 1)
        return err_set(err, ERR_BAD_INPUT,
                       "the model's folder has %u .onnx files; call the one to "
                       "run model.onnx",
                       count);
    *ret = found;
    return 0;
}

static int folder_of(const char *home, struct slice digest, struct arena *arena,
                     const char **ret_folder, const char **ret_fresh, struct err *err)
{
    struct slice hex = digest;
    (void)slice_cut(&hex, ':');
    if (!slice_starts(digest, SLICE("sha256:")) || hex.size != 64 || memchr(hex.data, '/', 64))
        return err_set(err, ERR_BAD_INPUT, "'%s' is no digest", ERR_SLICE(digest));
    *ret_folder = arena_format(arena, "%s/models/%.*s", home, SLICE_FMT(hex));
    *ret_fresh = arena_format(arena, "%s/models/.new-%.*s", home, SLICE_FMT(hex));
    return 0;
}

bool agent_model_folder_find(const char *home, struct slice digest, struct arena *arena,
                             const char **ret_folder, const char **ret_file)
{
    const char *fresh;
    struct err err;
    struct stat st;
    return folder_of(home, digest, arena, ret_folder, &fresh, &err) == 0 &&
           stat(*ret_folder, &st) == 0 && model_file_find(arena, *ret_folder, ret_file, &err) == 0;
}

int agent_model_folder(const char *home, struct slice digest, struct arena *arena,
                       const char **ret_folder, const char **ret_file, struct err *err)
{
    const char *folder, *fresh;
    struct stat st;
    int r = folder_of(home, digest, arena, &folder, &fresh, err);
    if (r < 0)
        return r;
    *ret_folder = folder;
    if (stat(folder, &st) < 0) {
        folder_remove(fresh, 0);
        r = folder_make(arena_format(arena, "%s/models", home), err);
        if (r == 0)
            r = folder_make(fresh, err);
        if (r == 0)
            r = folder_fill(home, arena, fresh, digest, err);
        if (r == 0 && rename(fresh, folder) < 0)
            r = failed("renaming", fresh, err);
        if (r < 0) {
            folder_remove(fresh, 0);
            return r;
        }
    }
    return model_file_find(arena, folder, ret_file, err);
}
