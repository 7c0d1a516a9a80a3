/* SPDX-License-Identifier: Apache-2.0 */
/*
 * .npz files, members stored as they are. Written aside and renamed: what is there under that name
 * is whole.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/tensor_file.h"

enum {
    NAME_BYTES_MAX = 1000,
    LOCAL_BYTES = 30,
    CENTRAL_BYTES = 46,
    END_BYTES = 22,
    VERSION = 20,
    NAMES_UTF8 = 0x0800,
    DAY_ONE = 0x21, /* 1980-01-01: the same bytes each time */
    MEMBERS_MAX = 4096,
};
#define FILE_BYTES_MAX (UINT64_C(4) << 30) /* what ZIP's 32 bits say */

struct npz {
    struct arena *arena;
    const char *path, *aside;
    FILE *file;
    uint64_t at;
    struct member {
        struct slice name;
        uint32_t crc, bytes, begin;
    } members[MEMBERS_MAX];
    size_t count;
};

static void put(char **at, uint32_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        *(*at)++ = (char)(value >> (8 * i));
}

/* What local header and central entry have in common. */
static void put_member(char **at, const struct member *member)
{
    put(at, VERSION, 2);
    put(at, NAMES_UTF8, 2);
    put(at, 0, 2); /* stored */
    put(at, 0, 2);
    put(at, DAY_ONE, 2);
    put(at, member->crc, 4);
    put(at, member->bytes, 4);
    put(at, member->bytes, 4);
    put(at, (uint32_t)member->name.size, 2);
    put(at, 0, 2);
}

static int file_error(struct npz *npz, struct err *err)
{
    int code = errno == ENOSPC || errno == EDQUOT ? ERR_OVERLOADED : ERR_INTERNAL;
    return err_set(err, code, "'%s': %s", ERR_TEXT(npz->path), strerror(errno));
}

static int write_all(struct npz *npz, struct slice bytes, struct err *err)
{
    npz->at += bytes.size;
    return fwrite(bytes.data, 1, bytes.size, npz->file) == bytes.size ? 0 : file_error(npz, err);
}

int npz_begin(struct arena *arena, const char *path, struct npz **ret, struct err *err)
{
    struct npz *npz = ARENA_NEW(arena, struct npz);
    npz->arena = arena;
    npz->path = path;
    npz->aside = arena_format(arena, "%s.%d.part", path, (int)getpid());
    npz->file = fopen(npz->aside, "wxe");
    if (!npz->file)
        return file_error(npz, err);
    *ret = npz;
    return 0;
}

/* ---- a member -------------------------------------------------------------------------------- */

static const char *const descrs[TENSOR_TYPE_COUNT] = {
    [TENSOR_BOOL] = "|b1",   [TENSOR_UINT8] = "|u1",  [TENSOR_UINT16] = "<u2",
    [TENSOR_UINT32] = "<u4", [TENSOR_UINT64] = "<u8", [TENSOR_INT8] = "|i1",
    [TENSOR_INT16] = "<i2",  [TENSOR_INT32] = "<i4",  [TENSOR_INT64] = "<i8",
    [TENSOR_FP16] = "<f2",   [TENSOR_FP32] = "<f4",   [TENSOR_FP64] = "<f8",
};

/* The header of a .npy, blanks at its end so that the data begin on 64 bytes. */
static struct slice header(struct arena *arena, const char *descr, const struct tensor_shape *shape)
{
    const char *dims = "";
    for (uint32_t d = 0; d < shape->rank; d++)
        dims = arena_format(arena, "%s%lld,%s", dims, (long long)shape->dims[d],
                            d + 1 < shape->rank ? " " : "");
    char *text = arena_format(arena, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                              descr, dims);
    size_t used = 10 + strlen(text) + 1, all = (used + 63) / 64 * 64;
    char *bytes = arena_alloc(arena, all), *at = bytes + 8;
    memset(bytes, ' ', all);
    memcpy(bytes, "\x93NUMPY\x01\x00", 8);
    put(&at, (uint32_t)(all - 10), 2);
    memcpy(at, text, strlen(text));
    bytes[all - 1] = '\n';
    return (struct slice){ bytes, all };
}

/* Elements of one width, as NumPy has them; that is the longest one's. */
static int strings(struct arena *arena, const struct tensor_file *tensor, struct slice *ret,
                   const char **ret_descr, struct err *err)
{
    const char *from = tensor->data.data, *end = from + tensor->data.size;
    uint32_t length, width = 1;
    uint64_t count = 0;
    for (const char *p = from; p < end; p += sizeof length + length, count++) {
        memcpy(&length, p, sizeof length);
        width = length > width ? length : width;
    }
    if (count > TENSOR_FILE_BYTES_MAX / width)
        return err_set(err, ERR_TOO_LARGE,
                       "one element of %u bytes makes all %llu as long, more than 1 GiB", width,
                       (unsigned long long)count);
    char *all = arena_calloc(arena, (size_t)count + 1, width), *to = all;
    for (const char *p = from; p < end; p += sizeof length + length, to += width) {
        memcpy(&length, p, sizeof length);
        memcpy(to, p + sizeof length, length);
    }
    *ret = (struct slice){ all, (size_t)(to - all) };
    *ret_descr = arena_format(arena, "|S%u", width);
    return 0;
}

/* Names of models' outputs have slashes ("/fc/Gemm_output_0"), and none a part "..". */
static bool leads_up(struct slice name)
{
    while (name.data)
        if (slice_is(slice_cut(&name, '/'), ".."))
            return true;
    return false;
}

int npz_add(struct npz *npz, struct slice name, const struct tensor_file *tensor, struct err *err)
{
    struct tensor_file shown = *tensor;
    const char *descr;
    int r = shown.datatype == TENSOR_BF16
                ? tensor_convert(npz->arena, &shown, TENSOR_FP32, err) /* exact */
                : 0;
    descr = descrs[shown.datatype];
    if (r == 0 && shown.datatype == TENSOR_BYTES)
        r = strings(npz->arena, tensor, &shown.data, &descr, err);
    if (r < 0)
        return err_wrap(err, "output '%s'", ERR_SLICE(name));
    struct slice head = header(npz->arena, descr, &shown.shape);
    uint64_t bytes = (uint64_t)head.size + shown.data.size;
    if (name.size > NAME_BYTES_MAX || leads_up(name) || memchr(name.data, '\\', name.size) ||
        memchr(name.data, '\0', name.size))
        return err_set(err, ERR_BAD_INPUT, "output '%s' has no name for a file in an archive",
                       ERR_SLICE(name));
    if (npz->count == MEMBERS_MAX ||
        npz->at + bytes + UINT64_C(4096) * (npz->count + 1) > FILE_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "more than 4 GiB, or %d outputs", (int)MEMBERS_MAX);
    struct member *member = &npz->members[npz->count++];
    *member = (struct member){
        .name = slice_of(arena_format(npz->arena, "%.*s.npy", SLICE_FMT(name))),
        .bytes = (uint32_t)bytes,
        .begin = (uint32_t)npz->at,
    };
    uLong crc = crc32_z(0, (const Bytef *)head.data, head.size);
    member->crc =
        (uint32_t)(shown.data.size ? crc32_z(crc, (const Bytef *)shown.data.data, shown.data.size)
                                   : crc);
    char local[LOCAL_BYTES], *at = local;
    put(&at, 0x04034b50, 4);
    put_member(&at, member);
    if ((r = write_all(npz, (struct slice){ local, sizeof local }, err)) < 0 ||
        (r = write_all(npz, member->name, err)) < 0 || (r = write_all(npz, head, err)) < 0)
        return r;
    return shown.data.size ? write_all(npz, shown.data, err) : 0;
}

/* ---- the end --------------------------------------------------------------------------------- */

static int directory_write(struct npz *npz, struct err *err)
{
    uint64_t begin = npz->at;
    int r = 0;
    for (size_t i = 0; i < npz->count && r == 0; i++) {
        char entry[CENTRAL_BYTES] = {}, *at = entry;
        put(&at, 0x02014b50, 4);
        put(&at, VERSION, 2);
        put_member(&at, &npz->members[i]);
        at = entry + 42;
        put(&at, npz->members[i].begin, 4);
        r = write_all(npz, (struct slice){ entry, sizeof entry }, err);
        if (r == 0)
            r = write_all(npz, npz->members[i].name, err);
    }
    char last[END_BYTES] = {}, *at = last;
    uint32_t size = (uint32_t)(npz->at - begin);
    put(&at, 0x06054b50, 4);
    at = last + 8;
    put(&at, (uint32_t)npz->count, 2);
    put(&at, (uint32_t)npz->count, 2);
    put(&at, size, 4);
    put(&at, (uint32_t)begin, 4);
    return r < 0 ? r : write_all(npz, (struct slice){ last, sizeof last }, err);
}

int npz_end(struct npz *npz, int r, struct err *err)
{
    if (r == 0)
        r = directory_write(npz, err);
    if (fclose(npz->file) != 0 && r == 0)
        r = file_error(npz, err);
    if (r == 0 && rename(npz->aside, npz->path) < 0)
        r = file_error(npz, err);
    if (r < 0)
        (void)unlink(npz->aside);
    return r;
}
