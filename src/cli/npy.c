/* SPDX-License-Identifier: Apache-2.0 */
/*
 * .npy and .npz. The header of a .npy is a Python dictionary literal of three known keys; a .npz is
 * a ZIP of .npy files, stored or deflated (APPNOTE 6.3.3; sizes from the central directory).
 */
#include <string.h>
#include <zlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/tensor_file.h"
#include "proto/tensor.h"

/* ---- the header ------------------------------------------------------------------------------ */

struct header {
    struct slice descr;
    bool fortran;
    struct slice shape; /* between the parentheses */
};

/* The text after 'key': in the dictionary. */
static bool header_value(struct slice text, const char *key, struct slice *ret)
{
    char quoted[32];
    size_t size = strlen(key) + 2;
    quoted[0] = '\'';
    memcpy(quoted + 1, key, strlen(key));
    quoted[size - 1] = '\'';
    const char *found = memmem(text.data, text.size, quoted, size);
    if (!found)
        return false;
    struct slice rest = { found + size, text.size - (size_t)(found - text.data) - size };
    rest = slice_trim(rest);
    if (rest.size == 0 || rest.data[0] != ':')
        return false;
    *ret = slice_trim((struct slice){ rest.data + 1, rest.size - 1 });
    return true;
}

static int header_parse(struct slice text, struct header *ret, struct err *err)
{
    struct slice value;
    if (!header_value(text, "descr", &value) || value.size < 3 || value.data[0] != '\'')
        return err_set(err, ERR_BAD_INPUT,
                       "the .npy header names no plain datatype (structured and "
                       "object arrays cannot be sent)");
    value = (struct slice){ value.data + 1, value.size - 1 };
    ret->descr = slice_cut(&value, '\'');
    if (!header_value(text, "fortran_order", &value))
        return err_set(err, ERR_BAD_INPUT, "the .npy header lacks fortran_order");
    ret->fortran = slice_starts(value, SLICE("True"));
    if (!header_value(text, "shape", &value) || value.size < 2 || value.data[0] != '(')
        return err_set(err, ERR_BAD_INPUT, "the .npy header lacks a shape");
    value = (struct slice){ value.data + 1, value.size - 1 };
    if (!memchr(value.data, ')', value.size))
        return err_set(err, ERR_BAD_INPUT, "the .npy header is cut");
    ret->shape = slice_cut(&value, ')');
    return 0;
}

static int shape_parse(struct slice text, struct tensor_file *ret, uint64_t *ret_elements,
                       struct err *err)
{
    while (text.data && slice_trim(text).size) {
        uint64_t dim;
        struct slice word = slice_trim(slice_cut(&text, ','));
        if (!slice_u64(word, &dim) || dim > INT64_MAX)
            return err_set(err, ERR_BAD_INPUT, "the .npy shape has the dimension '%s'",
                           ERR_SLICE(word));
        if (ret->shape.rank == TENSOR_RANK_MAX)
            return err_set(err, ERR_BAD_INPUT, "more than %u dimensions", TENSOR_RANK_MAX);
        ret->shape.dims[ret->shape.rank++] = (int64_t)dim;
    }
    if (!tensor_elements(&ret->shape, ret_elements))
        return err_set(err, ERR_TOO_LARGE, "the .npy shape is absurdly large");
    return 0;
}

/* ---- elements -------------------------------------------------------------------------------- */

static enum tensor_type datatype_of_descr(struct slice descr, size_t *ret_bytes)
{
    static const struct {
        const char *descr;
        enum tensor_type datatype;
    } rows[] = {
        { "b1", TENSOR_BOOL },   { "u1", TENSOR_UINT8 },  { "u2", TENSOR_UINT16 },
        { "u4", TENSOR_UINT32 }, { "u8", TENSOR_UINT64 }, { "i1", TENSOR_INT8 },
        { "i2", TENSOR_INT16 },  { "i4", TENSOR_INT32 },  { "i8", TENSOR_INT64 },
        { "f2", TENSOR_FP16 },   { "f4", TENSOR_FP32 },   { "f8", TENSOR_FP64 },
    };
    struct slice kind = { descr.data + 1, descr.size - 1 };
    uint64_t width;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (slice_is(kind, rows[i].descr)) {
            *ret_bytes = tensor_type_bytes(rows[i].datatype);
            return rows[i].datatype;
        }
    if (kind.size > 1 && (kind.data[0] == 'S' || kind.data[0] == 'U') &&
        slice_u64((struct slice){ kind.data + 1, kind.size - 1 }, &width) && width < 1 << 20) {
        *ret_bytes = kind.data[0] == 'U' ? (size_t)width * 4 : (size_t)width;
        return TENSOR_BYTES;
    }
    return 0;
}

static void swap_bytes(char *data, size_t size, size_t width)
{
    for (size_t at = 0; at + width <= size; at += width)
        for (size_t i = 0; i < width / 2; i++) {
            char byte = data[at + i];
            data[at + i] = data[at + width - 1 - i];
            data[at + width - 1 - i] = byte;
        }
}

static size_t utf8_put(char *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 0x3f));
        to[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | (c >> 18 & 7));
    to[1] = (char)(0x80 | (c >> 12 & 0x3f));
    to[2] = (char)(0x80 | (c >> 6 & 0x3f));
    to[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* Fixed-width strings, padded with NULs, to length and bytes each. */
static int strings_read(struct arena *arena, struct slice data, size_t width, bool wide,
                        uint64_t elements, struct slice *ret, struct err *err)
{
    /* Strings of no width at all take no byte in the file. */
    if (elements > TENSOR_FILE_BYTES_MAX / (4 + width))
        return err_set(err, ERR_TOO_LARGE, "the .npy file has too many strings");
    char *all = arena_alloc(arena, (size_t)elements * (4 + width) + 1), *at = all;
    for (uint64_t i = 0; i < elements; i++) {
        const char *from = data.data + i * width;
        char *length_at = at;
        at += 4;
        if (wide) {
            for (size_t k = 0; k < width; k += 4) {
                uint32_t c;
                memcpy(&c, from + k, 4);
                if (c == 0)
                    break;
                if (c > 0x10ffff)
                    return err_set(err, ERR_BAD_INPUT, "string %llu of the .npy file is no text",
                                   (unsigned long long)i);
                at += utf8_put(at, c);
            }
        } else {
            size_t size = width;
            while (size && from[size - 1] == '\0')
                size--;
            memcpy(at, from, size);
            at += size;
        }
        uint32_t length = (uint32_t)(at - length_at - 4);
        memcpy(length_at, &length, 4);
    }
    *ret = (struct slice){ all, (size_t)(at - all) };
    return 0;
}

int npy_read(struct arena *arena, struct slice file, struct tensor_file *ret, struct err *err)
{
    struct header header = {};
    uint64_t elements, all;
    size_t width = 0, head = 10;
    if (file.size < 12 || memcmp(file.data, "\x93NUMPY", 6) != 0)
        return err_set(err, ERR_BAD_INPUT, "not a .npy file");
    const unsigned char *bytes = (const unsigned char *)file.data;
    size_t header_bytes = bytes[8] | (size_t)bytes[9] << 8;
    if (bytes[6] >= 2) {
        header_bytes |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
        head = 12;
    }
    if (header_bytes > file.size - head)
        return err_set(err, ERR_BAD_INPUT, "the .npy file is cut in its header");
    int r = header_parse((struct slice){ file.data + head, header_bytes }, &header, err);
    if (r < 0)
        return r;
    *ret = (struct tensor_file){};
    r = shape_parse(header.shape, ret, &elements, err);
    if (r < 0)
        return r;
    ret->datatype = header.descr.size > 1 ? datatype_of_descr(header.descr, &width) : 0;
    if (!ret->datatype)
        return err_set(err, ERR_BAD_INPUT, "arrays of datatype '%s' cannot be sent",
                       ERR_SLICE(header.descr));
    if (header.fortran && ret->shape.rank > 1)
        return err_set(err, ERR_BAD_INPUT,
                       "the array is in Fortran order; save "
                       "numpy.ascontiguousarray(array) instead");
    struct slice data = { file.data + head + header_bytes, file.size - head - header_bytes };
    if (__builtin_mul_overflow(elements, width, &all) || all != data.size)
        return err_set(err, ERR_BAD_INPUT,
                       "the .npy file has %zu bytes of data where its shape says "
                       "%llu",
                       data.size, (unsigned long long)all);
    bool wide = header.descr.data[1] == 'U';
    struct slice copy = arena_copy(arena, data);
    if (header.descr.data[0] == '>')
        swap_bytes((char *)copy.data, copy.size, wide ? 4 : width ? width : 1);
    ret->data = copy;
    return ret->datatype == TENSOR_BYTES
               ? strings_read(arena, copy, width, wide, elements, &ret->data, err)
               : 0;
}

/* ---- zip ------------------------------------------------------------------------------------- */

static uint32_t le(const char *data, size_t bytes)
{
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint32_t)(unsigned char)data[i] << (8 * i);
    return value;
}

static int member_inflate(struct arena *arena, struct slice packed, uint32_t method, uint32_t size,
                          struct slice *ret, struct err *err)
{
    if (method == 0) {
        *ret = packed;
        return 0;
    }
    if (method != 8)
        return err_set(err, ERR_BAD_INPUT,
                       "the .npz member is packed by method %u; use "
                       "numpy.savez or savez_compressed",
                       method);
    if (size > TENSOR_FILE_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the .npz member is larger than 1 GiB");
    /* Deflate makes at most 1032 bytes of one: more is a lie, and not worth the memory. */
    if (size / 1032 > packed.size)
        return err_set(err, ERR_BAD_INPUT, "the .npz member cannot be as large as it says");
    char *data = arena_alloc(arena, (size_t)size + 1);
    z_stream z = { .next_in = (Bytef *)packed.data,
                   .avail_in = (uInt)packed.size,
                   .next_out = (Bytef *)data,
                   .avail_out = size };
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
        return err_set(err, ERR_INTERNAL, "zlib does not start");
    int code = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    if (code != Z_STREAM_END || z.total_out != size)
        return err_set(err, ERR_BAD_INPUT, "the .npz member cannot be unpacked");
    *ret = (struct slice){ data, size };
    return 0;
}

/* One entry of the central directory at `at`; 0 when there is none. */
static size_t entry_at(struct slice file, size_t at, struct slice *ret_name, uint32_t *ret_method,
                       struct slice *ret_packed, uint32_t *ret_size)
{
    if (at + 46 > file.size || le(file.data + at, 4) != 0x02014b50)
        return 0;
    const char *p = file.data + at;
    uint32_t packed = le(p + 20, 4), name = le(p + 28, 2), extra = le(p + 30, 2);
    uint32_t comment = le(p + 32, 2), local = le(p + 42, 4);
    *ret_method = le(p + 10, 2);
    *ret_size = le(p + 24, 4);
    if (at + 46 + name > file.size || (size_t)local + 30 > file.size ||
        le(file.data + local, 4) != 0x04034b50)
        return 0;
    size_t begin =
        (size_t)local + 30 + le(file.data + local + 26, 2) + le(file.data + local + 28, 2);
    if (begin > file.size || packed > file.size - begin)
        return 0;
    *ret_name = (struct slice){ p + 46, name };
    *ret_packed = (struct slice){ file.data + begin, packed };
    return 46 + (size_t)name + extra + comment;
}

int npz_read(struct arena *arena, struct slice file, struct slice name, struct tensor_file *ret,
             struct err *err)
{
    size_t end = file.size, members = 0;
    while (end >= 22 && le(file.data + end - 22, 4) != 0x06054b50 && file.size - end < 66'000)
        end--;
    if (end < 22 || le(file.data + end - 22, 4) != 0x06054b50)
        return err_set(err, ERR_BAD_INPUT, "not a .npz file");
    size_t at = le(file.data + end - 22 + 16, 4);
    struct slice found_name = {}, member_name, packed, found = {};
    uint32_t method, size, found_method = 0, found_size = 0;
    for (size_t step; (step = entry_at(file, at, &member_name, &method, &packed, &size));
         at += step) {
        struct slice stem = member_name;
        if (slice_ends(stem, SLICE(".npy")))
            stem.size -= 4;
        members++;
        if (name.size == 0 || slice_equal(stem, name)) {
            found_name = stem;
            found = packed;
            found_method = method;
            found_size = size;
        }
    }
    if (!found_name.data)
        return err_set(err, ERR_NOT_FOUND, "the .npz file has no array '%s'", ERR_SLICE(name));
    if (name.size == 0 && members > 1)
        return err_set(err, ERR_BAD_INPUT,
                       "the .npz file has %zu arrays; none is named like the "
                       "input",
                       members);
    struct slice data;
    int r = member_inflate(arena, found, found_method, found_size, &data, err);
    return r < 0 ? r : npy_read(arena, data, ret, err);
}
