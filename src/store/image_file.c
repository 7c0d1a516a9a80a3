/* SPDX-License-Identifier: Apache-2.0 */
#include "store/image_file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "store/image_inside.h"

int image_read_part(const struct image_reading *reading, uint64_t offset, void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(reading->fd, (char *)data + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(reading->err, n < 0 ? ERR_INTERNAL : ERR_BAD_INPUT, "reading it: %s",
                           n < 0 ? strerror(errno) : "it ends too early");
        done += (size_t)n;
    }
    return 0;
}

int image_find(const struct image_reading *reading, struct slice name, struct image_tar_entry *ret)
{
    if (image_tar_find(&reading->tar, name, ret))
        return 0;
    return err_set(reading->err, ERR_BAD_INPUT, "'%s' is not in it", ERR_SLICE(name));
}

int image_load(const struct image_reading *reading, struct slice name,
               struct image_tar_entry *ret_entry, struct slice *ret)
{
    int r = image_find(reading, name, ret_entry);

    if (r == 0 && ret_entry->bytes > IMAGE_CONFIG_BYTES_MAX)
        r = err_set(reading->err, ERR_TOO_LARGE, "'%s' is above %d MiB", ERR_SLICE(name),
                    IMAGE_CONFIG_BYTES_MAX >> 20);
    if (r < 0)
        return r;
    char *text = arena_alloc(reading->arena, (size_t)ret_entry->bytes + 1);
    *ret = (struct slice){ text, (size_t)ret_entry->bytes };
    return image_read_part(reading, ret_entry->offset, text, ret->size);
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

static int read_file(const struct image_reading *reading)
{
    struct image_tar_entry entry;
    struct slice text;

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
    int r = image_tar_index(arena, fd, &reading.tar, err);

    if (r == 0)
        r = read_file(&reading);
    if (r < 0)
        return err_wrap(err, "the image's file");
    file.bytes = file.config_blob.blob.bytes;
    for (size_t i = 0; i < file.layer_count; i++)
        file.bytes += file.layers[i].blob.bytes;
    *ret = file;
    return 0;
}
