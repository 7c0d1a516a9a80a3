/* SPDX-License-Identifier: Apache-2.0 */
#include "store/image_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "store/image_inside.h"
#include "sys/beneath.h"
#include "sys/fd.h"

static int read_part(int fd, uint64_t offset, void *data, size_t bytes, struct err *err)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(fd, (char *)data + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, n < 0 ? ERR_INTERNAL : ERR_BAD_INPUT, "reading it: %s",
                           n < 0 ? strerror(errno) : "it ends too early");
        done += (size_t)n;
    }
    return 0;
}

int image_read_part(const struct image_reading *reading, uint64_t offset, void *data, size_t bytes)
{
    return read_part(reading->fd, offset, data, bytes, reading->err);
}

/* A file of the folder: its descriptor. */
static int open_inside(int folder, const char *name, uint64_t *ret_bytes, struct err *err)
{
    struct stat status;
    auto_close int fd = beneath_open(folder, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);

    if (fd < 0 && errno == ENOENT)
        return err_set(err, ERR_BAD_INPUT, "'%s' is not in it", ERR_TEXT(name));
    if (fd < 0 && errno == EXDEV)
        return err_set(err, ERR_BAD_INPUT,
                       "'%s' leads out of it by a link: put the file itself there", ERR_TEXT(name));
    if (fd < 0 || fstat(fd, &status) < 0)
        return err_set(err, ERR_BAD_INPUT, "'%s': %s", ERR_TEXT(name), strerror(errno));
    if (!S_ISREG(status.st_mode))
        return err_set(err, ERR_BAD_INPUT, "'%s' is no plain file", ERR_TEXT(name));
    *ret_bytes = (uint64_t)status.st_size;
    return take_fd(fd);
}

/* *ret_own: what was opened for it, the caller's; -1: it lies in the file. */
static int find(const struct image_reading *reading, struct slice name, struct image_tar_entry *ret,
                int *ret_own)
{
    if (reading->folder) {
        *ret = (struct image_tar_entry){ .name = name };
        *ret_own =
            open_inside(reading->fd, arena_string(reading->arena, name), &ret->bytes, reading->err);
        return *ret_own < 0 ? *ret_own : 0;
    }
    if (image_tar_find(&reading->tar, name, ret))
        return 0;
    return err_set(reading->err, ERR_BAD_INPUT, "'%s' is not in it", ERR_SLICE(name));
}

int image_find(const struct image_reading *reading, struct slice name, struct image_tar_entry *ret)
{
    auto_close int own = -1;

    return find(reading, name, ret, &own);
}

int image_load(const struct image_reading *reading, struct slice name,
               struct image_tar_entry *ret_entry, struct slice *ret)
{
    auto_close int own = -1;
    int r = find(reading, name, ret_entry, &own);

    if (r == 0 && ret_entry->bytes > IMAGE_CONFIG_BYTES_MAX)
        r = err_set(reading->err, ERR_TOO_LARGE, "'%s' is above %d MiB", ERR_SLICE(name),
                    IMAGE_CONFIG_BYTES_MAX >> 20);
    if (r < 0)
        return r;
    char *text = arena_alloc(reading->arena, (size_t)ret_entry->bytes + 1);
    *ret = (struct slice){ text, (size_t)ret_entry->bytes };
    return read_part(own < 0 ? reading->fd : own, ret_entry->offset, text, ret->size, reading->err);
}

int image_take_config(const struct image_reading *reading, struct slice text)
{
    int r = image_config_parse(reading->arena, text, &reading->file->config, reading->err);

    if (r == 0 && reading->file->config.layer_count != reading->file->layer_count)
        r = err_set(reading->err, ERR_BAD_INPUT,
                    "the image has %zu layers, and its configuration names %zu",
                    reading->file->layer_count, reading->file->config.layer_count);
    return r;
}

static int read_folder(const struct image_reading *reading)
{
    struct image_tar_entry entry;
    struct slice text = {};
    int r = image_layout_check(reading);

    if (r == 0)
        r = image_load(reading, SLICE("index.json"), &entry, &text);
    return r < 0 ? r : image_layout_read(reading, text);
}

static int read_file(const struct image_reading *reading)
{
    struct image_tar_entry entry;
    struct slice text = {};

    if (image_tar_find(&reading->tar, SLICE("index.json"), &entry)) {
        int r = image_load(reading, SLICE("index.json"), &entry, &text);
        return r < 0 ? r : image_layout_read(reading, text);
    }
    if (image_tar_find(&reading->tar, SLICE("manifest.json"), &entry)) {
        int r = image_load(reading, SLICE("manifest.json"), &entry, &text);
        return r < 0 ? r : image_saved_read(reading, text);
    }
    return err_set(reading->err, ERR_BAD_INPUT,
                   "there is neither index.json nor manifest.json in it: it is no image as `podman "
                   "save` or `docker save` write it");
}

int image_file_read(struct arena *arena, int fd, struct slice machine, struct image_file *ret,
                    struct err *err)
{
    struct image_file file = {};
    struct image_reading reading = {
        .arena = arena, .fd = fd, .machine = machine, .file = &file, .err = err
    };
    struct stat status;
    int r = 0;

    reading.folder = fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
    if (!reading.folder)
        r = image_tar_index(arena, fd, &reading.tar, err);
    if (r == 0)
        r = reading.folder ? read_folder(&reading) : read_file(&reading);
    if (r < 0)
        return err_wrap(err, reading.folder ? "the image's folder" : "the image's file");
    file.bytes = file.config_blob.blob.bytes;
    for (size_t i = 0; i < file.layer_count; i++)
        file.bytes += file.layers[i].blob.bytes;
    *ret = file;
    return 0;
}

int image_file_open(int fd, const struct image_file_blob *blob, struct err *err)
{
    uint64_t bytes;

    if (blob->name)
        return open_inside(fd, blob->name, &bytes, err);
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return own < 0 ? err_set(err, ERR_INTERNAL, "%s", strerror(errno)) : own;
}
