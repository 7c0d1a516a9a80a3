/* SPDX-License-Identifier: Apache-2.0 */
#include "store/tar.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "store/manifest.h"

/* Where a head has what (POSIX ustar). */
enum {
    AT_NAME = 0,
    AT_MODE = 100,
    AT_UID = 108,
    AT_GID = 116,
    AT_SIZE = 124,
    AT_MTIME = 136,
    AT_SUM = 148,
    AT_TYPE = 156,
    AT_MAGIC = 257,
    AT_PREFIX = 345,
};
enum { COPY_BYTES = 256 << 10, NAME_FIELD = 100, PREFIX_FIELD = 155 };
static const uint64_t octal_max = UINT64_C(077777777777);

static unsigned head_sum(const unsigned char *head)
{
    unsigned sum = 0;
    for (int i = 0; i < TAR_BLOCK; i++)
        sum += i >= AT_SUM && i < AT_SUM + 8 ? ' ' : head[i];
    return sum;
}

static int write_all(int fd, const void *data, size_t bytes, struct err *err)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = write(fd, (const char *)data + done, bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, errno == ENOSPC || errno == EDQUOT ? ERR_OVERLOADED : ERR_INTERNAL,
                           "writing the archive: %s", strerror(errno));
        done += (size_t)n;
    }
    return 0;
}

void tar_head(unsigned char head[static TAR_BLOCK], const char *name, uint64_t bytes,
              int64_t modified_s)
{
    const char *slash = strlen(name) < NAME_FIELD ? NULL : strrchr(name, '/');
    const char *last = slash ? slash + 1 : name;
    memset(head, 0, TAR_BLOCK);
    assert(strlen(last) < NAME_FIELD && (!slash || slash - name <= PREFIX_FIELD));
    memcpy(head + AT_NAME, last, strlen(last));
    if (slash)
        memcpy(head + AT_PREFIX, name, (size_t)(slash - name));
    memcpy(head + AT_MODE, "0000600", 7);
    memcpy(head + AT_UID, "0000000", 7);
    memcpy(head + AT_GID, "0000000", 7);
    if (bytes <= octal_max) {
        snprintf((char *)head + AT_SIZE, 12, "%011llo", (unsigned long long)bytes);
    } else { /* base 256, as GNU tar */
        head[AT_SIZE] = 0x80;
        for (int i = 0; i < 8; i++)
            head[AT_SIZE + 11 - i] = (unsigned char)(bytes >> (8 * i));
    }
    uint64_t mtime = modified_s > 0 ? (uint64_t)modified_s : 0;
    snprintf((char *)head + AT_MTIME, 12, "%011llo",
             (unsigned long long)(mtime <= octal_max ? mtime : octal_max));
    head[AT_TYPE] = '0';
    memcpy(head + AT_MAGIC, "ustar\00000", 8);
    snprintf((char *)head + AT_SUM, 8, "%06o", head_sum(head));
    head[AT_SUM + 7] = ' ';
}

static int write_head(int fd, const char *name, uint64_t bytes, int64_t modified_s, struct err *err)
{
    unsigned char head[TAR_BLOCK];
    tar_head(head, name, bytes, modified_s);
    return write_all(fd, head, sizeof head, err);
}

static int write_padding(int fd, uint64_t bytes, struct err *err)
{
    static const char zeros[TAR_BLOCK];
    size_t over = bytes % TAR_BLOCK;
    return over ? write_all(fd, zeros, TAR_BLOCK - over, err) : 0;
}

int tar_write_bytes(int fd, const char *name, struct slice bytes, int64_t modified_s,
                    struct err *err)
{
    int r = write_head(fd, name, bytes.size, modified_s, err);
    if (r == 0)
        r = write_all(fd, bytes.data, bytes.size, err);
    return r < 0 ? r : write_padding(fd, bytes.size, err);
}

int tar_write_file(int fd, const char *name, int source_fd, uint64_t bytes, int64_t modified_s,
                   struct err *err)
{
    auto_free char *buffer = mem_alloc(COPY_BYTES);
    int r = write_head(fd, name, bytes, modified_s, err);
    for (uint64_t at = 0; r == 0 && at < bytes;) {
        size_t want = bytes - at < COPY_BYTES ? (size_t)(bytes - at) : COPY_BYTES;
        ssize_t n = pread(source_fd, buffer, want, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, ERR_INTERNAL, "reading '%s': %s", name,
                           n < 0 ? strerror(errno) : "it became shorter");
        r = write_all(fd, buffer, (size_t)n, err);
        at += (uint64_t)n;
    }
    return r < 0 ? r : write_padding(fd, bytes, err);
}

int tar_write_end(int fd, struct err *err)
{
    static const char zeros[2 * TAR_BLOCK];
    return write_all(fd, zeros, sizeof zeros, err);
}

/* ---- reading -------------------------------------------------------------------------------- */

static int number_parse(const unsigned char *field, size_t size, uint64_t *ret)
{
    uint64_t value = 0;
    size_t i = 0;
    if (field[0] & 0x80) {
        if (field[0] != 0x80)
            return -1; /* negative, or above any size */
        for (i = 1; i < size; i++) {
            if (value >> 55)
                return -1;
            value = value << 8 | field[i];
        }
        *ret = value;
        return 0;
    }
    while (i < size && field[i] == ' ')
        i++;
    size_t first = i;
    for (; i < size && field[i] >= '0' && field[i] <= '7'; i++)
        value = value << 3 | (uint64_t)(field[i] - '0');
    if (i == first || (i < size && field[i] != '\0' && field[i] != ' '))
        return -1;
    *ret = value;
    return 0;
}

int tar_head_bytes(const unsigned char head[static TAR_BLOCK], uint64_t *ret, struct err *err)
{
    static const unsigned char zeros[TAR_BLOCK];
    uint64_t sum, bytes;
    if (memcmp(head, zeros, TAR_BLOCK) == 0)
        return 0;
    if (memcmp(head + AT_MAGIC, "ustar", 5) != 0)
        return err_set(err, ERR_BAD_INPUT, "this is no tar archive");
    if (number_parse(head + AT_SUM, 8, &sum) < 0 || sum != head_sum(head))
        return err_set(err, ERR_BAD_INPUT, "the archive is damaged: a sum is wrong");
    if (number_parse(head + AT_SIZE, 12, &bytes) < 0 || bytes > INT64_MAX - TAR_BLOCK)
        return err_set(err, ERR_BAD_INPUT, "the archive is damaged: a size is wrong");
    *ret = bytes;
    return 1;
}

int tar_head_parse(const unsigned char head[static TAR_BLOCK], struct tar_entry *ret_entry,
                   struct err *err)
{
    uint64_t bytes;
    int r = tar_head_bytes(head, &bytes, err);
    if (r <= 0)
        return r;
    if (head[AT_TYPE] != '0' && head[AT_TYPE] != '\0')
        return err_set(err, ERR_BAD_INPUT, "the archive has something that is no plain file");
    char name[TAR_NAME_MAX];
    const char *prefix = (const char *)head + AT_PREFIX;
    static_assert(PREFIX_FIELD + 1 + NAME_FIELD < sizeof name, "a whole name fits");
    snprintf(name, sizeof name, "%.*s%s%.*s", PREFIX_FIELD, prefix, *prefix ? "/" : "", NAME_FIELD,
             (const char *)head);
    r = manifest_check_path(slice_of(name), err);
    if (r < 0)
        return r;
    memcpy(ret_entry->name, name, sizeof name);
    ret_entry->bytes = bytes;
    return 1;
}

static int read_exactly(int fd, void *data, size_t bytes, struct err *err)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = read(fd, (char *)data + done, bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_INTERNAL, "reading the archive: %s", strerror(errno));
        if (n == 0)
            return err_set(err, ERR_BAD_INPUT, "the archive ends too early");
        done += (size_t)n;
    }
    return 0;
}

static int skip(struct tar_reader *reader, struct err *err)
{
    char buffer[8192];
    uint64_t left = reader->left + reader->padding;
    while (left > 0) {
        size_t want = left < sizeof buffer ? (size_t)left : sizeof buffer;
        int r = read_exactly(reader->fd, buffer, want, err);
        if (r < 0)
            return r;
        left -= want;
    }
    reader->left = reader->padding = 0;
    return 0;
}

int tar_read_next(struct tar_reader *reader, struct tar_entry *ret_entry, struct err *err)
{
    unsigned char head[TAR_BLOCK];
    int r = skip(reader, err);
    if (r < 0 || (r = read_exactly(reader->fd, head, sizeof head, err)) < 0)
        return r;
    r = tar_head_parse(head, ret_entry, err);
    if (r > 0) {
        reader->left = ret_entry->bytes;
        reader->padding = (TAR_BLOCK - ret_entry->bytes % TAR_BLOCK) % TAR_BLOCK;
    }
    return r;
}

int64_t tar_read(struct tar_reader *reader, void *data, size_t bytes, struct err *err)
{
    if (bytes > reader->left)
        bytes = (size_t)reader->left;
    int r = read_exactly(reader->fd, data, bytes, err);
    if (r < 0)
        return r;
    reader->left -= bytes;
    return (int64_t)bytes;
}
