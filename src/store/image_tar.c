/* SPDX-License-Identifier: Apache-2.0 */
/* Long names (pax, GNU) and devices are passed over: nothing of use in an image has them. */
#include "store/image_tar.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "store/image_file.h"
#include "store/manifest.h"
#include "store/tar.h"

enum {
    NAME_BYTES = 100,
    AT_LINK = 157,
    LINK_BYTES = 100,
    AT_PREFIX = 345,
    PREFIX_BYTES = 155,
    LINKS_MAX = 4
};

static struct slice field(const unsigned char *head, size_t at, size_t bytes)
{
    return (struct slice){ (const char *)head + at, strnlen((const char *)head + at, bytes) };
}

static struct slice plain(struct slice name)
{
    while (slice_starts(name, SLICE("./")))
        name = (struct slice){ name.data + 2, name.size - 2 };
    while (slice_ends(name, SLICE("/")))
        name.size--;
    return name;
}

/* "a/b" and "../c/d" are "c/d". */
static int resolve(struct arena *arena, struct slice name, struct slice link, struct slice *ret,
                   struct err *err)
{
    while (name.size && name.data[name.size - 1] != '/')
        name.size--;
    while (slice_starts(link, SLICE("../")) && name.size) {
        link = (struct slice){ link.data + 3, link.size - 3 };
        name.size--;
        while (name.size && name.data[name.size - 1] != '/')
            name.size--;
    }
    *ret = slice_of(arena_format(arena, "%.*s%.*s", SLICE_FMT(name), SLICE_FMT(link)));
    return manifest_check_path(*ret, err);
}

static int take(struct arena *arena, const unsigned char *head, uint64_t offset, uint64_t bytes,
                struct image_tar *tar, struct err *err)
{
    struct image_tar_entry *entry = &tar->entries[tar->count];
    struct slice prefix = field(head, AT_PREFIX, PREFIX_BYTES);
    struct slice name = field(head, 0, NAME_BYTES);
    char type = (char)head[TAR_TYPE_AT];
    int r = 0;

    if (prefix.size)
        name = slice_of(arena_format(arena, "%.*s/%.*s", SLICE_FMT(prefix), SLICE_FMT(name)));
    name = plain(name);
    if (name.size == 0 || slice_is(name, "."))
        return 0;
    r = manifest_check_path(name, err);
    if (r < 0)
        return err_wrap(err, "a name in it");
    *entry = (struct image_tar_entry){ arena_copy(arena, name), {}, offset, bytes };
    if (type == '1' || type == '2') {
        struct slice link = field(head, AT_LINK, LINK_BYTES);
        entry->bytes = 0;
        r = resolve(arena, type == '2' ? entry->name : (struct slice){}, link, &entry->link, err);
        if (r < 0)
            return err_wrap(err, "the link '%s' in it", ERR_SLICE(name));
    } else if (type != '0' && type != '\0') {
        return 0;
    }
    tar->count++;
    return 0;
}

static int read_head(int fd, uint64_t at, unsigned char *head, struct err *err)
{
    ssize_t n = pread(fd, head, TAR_BLOCK, (off_t)at);

    if (n == TAR_BLOCK)
        return 0;
    return err_set(err, n < 0 ? ERR_INTERNAL : ERR_BAD_INPUT, "%s",
                   n < 0 ? strerror(errno) : "it ends too early, or is no tar");
}

int image_tar_index(struct arena *arena, int fd, struct image_tar *ret, struct err *err)
{
    struct image_tar tar = {};
    unsigned char head[TAR_BLOCK];
    struct stat status;
    uint64_t at = 0;

    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return err_set(err, ERR_BAD_INPUT, "it is no plain file");
    tar.entries = ARENA_ARRAY(arena, struct image_tar_entry, IMAGE_FILE_ENTRIES_MAX + 1);
    for (unsigned heads = 0;; heads++) {
        uint64_t bytes;
        int r = read_head(fd, at, head, err);
        if (r == 0)
            r = tar_head_bytes(head, &bytes, err);
        if (r == 0)
            *ret = tar;
        if (r <= 0)
            return r;
        if (heads == IMAGE_FILE_ENTRIES_MAX)
            return err_set(err, ERR_TOO_LARGE, "there are more than %d entries in it", heads);
        at += TAR_BLOCK;
        bool data =
            head[TAR_TYPE_AT] != '1' && head[TAR_TYPE_AT] != '2' && head[TAR_TYPE_AT] != '5';
        if (data && bytes > (uint64_t)status.st_size - at)
            return err_set(err, ERR_BAD_INPUT, "it ends too early");
        r = take(arena, head, at, bytes, &tar, err);
        if (r < 0)
            return r;
        if (data)
            at += (bytes + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    }
}

bool image_tar_find(const struct image_tar *tar, struct slice name, struct image_tar_entry *ret)
{
    name = plain(name);
    for (unsigned links = 0; links <= LINKS_MAX; links++) {
        const struct image_tar_entry *found = NULL;
        for (size_t i = 0; i < tar->count; i++) /* the last of a name counts, as for tar */
            if (slice_equal(tar->entries[i].name, name))
                found = &tar->entries[i];
        if (!found)
            return false;
        if (!found->link.size) {
            *ret = *found;
            return true;
        }
        name = found->link;
    }
    return false;
}
