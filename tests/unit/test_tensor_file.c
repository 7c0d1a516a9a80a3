/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/tensor_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <math.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <jpeglib.h> /* after stdio.h */
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/arena.h"
#include "base/err.h"

static struct arena *arena;

static int setup(void **state)
{
    (void)state;
    arena = arena_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(arena);
    return 0;
}

/* ---- .npy ----------------------------------------------------------------------------------- */

static struct slice npy(const char *header, const void *data, size_t bytes)
{
    size_t length = strlen(header);
    char *file = arena_alloc(arena, 10 + length + bytes);
    memcpy(file, "\x93NUMPY\x01", 8);
    file[8] = (char)(length & 255);
    file[9] = (char)(length >> 8);
    memcpy(file + 10, header, length);
    if (bytes)
        memcpy(file + 10 + length, data, bytes);
    return (struct slice){ file, 10 + length + bytes };
}

#define HEADER(descr, order, shape)                                                                \
    "{'descr': '" descr "', 'fortran_order': " order ", 'shape': " shape ", }\n"

static const struct {
    const char *name, *header, *data;
    size_t bytes;
    const char *words, *error; /* what is read; or a part of the error */
    const char *read;          /* NULL: the data as it is */
    size_t read_bytes;
} npy_rows[] = {
    { "a vector", HEADER("<f4", "False", "(2,)"), "abcdefgh", 8, "FP32 [2]", NULL, NULL, 0 },
    { "a matrix", HEADER("|u1", "False", "(2, 3)"), "abcdef", 6, "UINT8 [2,3]", NULL, NULL, 0 },
    { "a scalar", HEADER("<i8", "False", "()"), "abcdefgh", 8, "INT64 []", NULL, NULL, 0 },
    { "nothing in it", HEADER("<f8", "False", "(0, 3)"), "", 0, "FP64 [0,3]", NULL, NULL, 0 },
    { "booleans", HEADER("|b1", "False", "(2,)"), "\0\1", 2, "BOOL [2]", NULL, NULL, 0 },
    { "halves", HEADER("<f2", "False", "(1,)"), "ab", 2, "FP16 [1]", NULL, NULL, 0 },
    { "big endian", HEADER(">u2", "False", "(2,)"), "abcd", 4, "UINT16 [2]", NULL, "badc", 4 },
    { "of Fortran, in one dimension", HEADER("|i1", "True", "(2,)"), "ab", 2, "INT8 [2]", NULL,
      NULL, 0 },
    { "bytes", HEADER("|S3", "False", "(2,)"), "ab\0xyz", 6, "BYTES [2]", NULL,
      "\2\0\0\0ab\3\0\0\0xyz", 13 },
    { "text", HEADER("<U2", "False", "(1,)"), "\xe4\0\0\0\0\0\0\0", 8, "BYTES [1]", NULL,
      "\2\0\0\0\xc3\xa4", 6 },
    { "text, big endian", HEADER(">U1", "False", "(1,)"), "\0\0\x20\xac", 4, "BYTES [1]", NULL,
      "\3\0\0\0\xe2\x82\xac", 7 },
    { "text that is none", HEADER("<U1", "False", "(1,)"), "\xff\xff\xff\x7f", 4, NULL,
      "is no text", NULL, 0 },
    { "no width, and many", HEADER("|S0", "False", "(1000000000,)"), "", 0, NULL,
      "too many strings", NULL, 0 },
    { "Fortran order", HEADER("<f4", "True", "(2, 1)"), "abcdefgh", 8, NULL, "ascontiguousarray",
      NULL, 0 },
    { "too short", HEADER("<f4", "False", "(3,)"), "abcdefgh", 8, NULL, "8 bytes of data", NULL,
      0 },
    { "too long", HEADER("<f4", "False", "(1,)"), "abcdefgh", 8, NULL, "8 bytes of data", NULL, 0 },
    { "a product that overflows", HEADER("<f4", "False", "(4294967296, 4294967296)"), "", 0, NULL,
      "absurdly large", NULL, 0 },
    { "a negative dimension", HEADER("<f4", "False", "(-1,)"), "", 0, NULL, "dimension '-1'", NULL,
      0 },
    { "seventeen dimensions", HEADER("<f4", "False", "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)"), "abcd",
      4, NULL, "more than 16", NULL, 0 },
    { "complex numbers", HEADER("<c8", "False", "(1,)"), "abcdefgh", 8, NULL, "'<c8'", NULL, 0 },
    { "objects", HEADER("|O", "False", "(1,)"), "", 0, NULL, "'|O'", NULL, 0 },
    { "structures", "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n", "abcd",
      4, NULL, "no plain datatype", NULL, 0 },
    { "no order", "{'descr': '<f4', 'shape': (1,)}\n", "abcd", 4, NULL, "fortran_order", NULL, 0 },
    { "no shape", "{'descr': '<f4', 'fortran_order': False}\n", "abcd", 4, NULL, "lacks a shape",
      NULL, 0 },
    { "no end", "{'descr': '<f4', 'fortran_order': False, 'shape': (1", "", 0, NULL, "cut", NULL,
      0 },
};

static void test_npy(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof npy_rows / sizeof *npy_rows; i++) {
        struct tensor_file tensor;
        struct err err = {};
        struct slice file = npy(npy_rows[i].header, npy_rows[i].data, npy_rows[i].bytes);
        print_message("  %s\n", npy_rows[i].name);
        int r = npy_read(arena, file, &tensor, &err);
        if (npy_rows[i].error) {
            assert_true(r < 0);
            assert_non_null(strstr(err.message, npy_rows[i].error));
            continue;
        }
        assert_int_equal(r, 0);
        assert_string_equal(tensor_words(arena, &tensor), npy_rows[i].words);
        const char *read = npy_rows[i].read ? npy_rows[i].read : npy_rows[i].data;
        assert_int_equal(tensor.data.size,
                         npy_rows[i].read ? npy_rows[i].read_bytes : npy_rows[i].bytes);
        assert_memory_equal(tensor.data.data, read, tensor.data.size);
    }
}

static void test_npy_cut_anywhere(void **state)
{
    struct slice whole = npy(HEADER("<f4", "False", "(2,)"), "abcdefgh", 8);
    struct tensor_file tensor;
    (void)state;
    for (size_t size = 0; size < whole.size; size++) {
        char *part = malloc(size ? size : 1); /* so that a sanitizer sees its end */
        memcpy(part, whole.data, size);
        assert_true(npy_read(arena, (struct slice){ part, size }, &tensor, NULL) < 0);
        free(part);
    }
}

/* ---- .npz ----------------------------------------------------------------------------------- */

struct zip {
    char data[4096];
    size_t size, directory, directory_size, members;
    char entries[1024];
};

static void put(char *to, uint32_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (char)(value >> (8 * i));
}

static void zip_add(struct zip *zip, const char *name, struct slice file, uint32_t method,
                    uint32_t claimed)
{
    char packed[2048];
    size_t packed_size = file.size, name_size = strlen(name);
    memcpy(packed, file.data, file.size);
    if (method == 8) {
        z_stream z = { .next_in = (Bytef *)file.data,
                       .avail_in = (uInt)file.size,
                       .next_out = (Bytef *)packed,
                       .avail_out = sizeof packed };
        assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 8, 0), Z_OK);
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        packed_size = z.total_out;
        deflateEnd(&z);
    }
    char *local = zip->data + zip->size, *entry = zip->entries + zip->directory_size;
    memset(local, 0, 30);
    memset(entry, 0, 46);
    put(local, 0x04034b50, 4);
    put(local + 26, (uint32_t)name_size, 2);
    memcpy(local + 30, name, name_size);
    memcpy(local + 30 + name_size, packed, packed_size);
    put(entry, 0x02014b50, 4);
    put(entry + 10, method, 2);
    put(entry + 20, (uint32_t)packed_size, 4);
    put(entry + 24, claimed ? claimed : (uint32_t)file.size, 4);
    put(entry + 28, (uint32_t)name_size, 2);
    put(entry + 42, (uint32_t)zip->size, 4);
    memcpy(entry + 46, name, name_size);
    zip->size += 30 + name_size + packed_size;
    zip->directory_size += 46 + name_size;
    zip->members++;
}

static struct slice zip_end(struct zip *zip)
{
    size_t directory = zip->size;
    memcpy(zip->data + zip->size, zip->entries, zip->directory_size);
    zip->size += zip->directory_size;
    char *end = zip->data + zip->size;
    memset(end, 0, 22);
    put(end, 0x06054b50, 4);
    put(end + 10, (uint32_t)zip->members, 2);
    put(end + 12, (uint32_t)zip->directory_size, 4);
    put(end + 16, (uint32_t)directory, 4);
    zip->size += 22;
    return (struct slice){ zip->data, zip->size };
}

static void test_npz(void **state)
{
    static struct zip zip, bomb, method, other;
    struct tensor_file tensor;
    struct err err = {};
    (void)state;
    struct slice a = npy(HEADER("|u1", "False", "(2,)"), "ab", 2);
    struct slice b = npy(HEADER("|u1", "False", "(3,)"), "xyz", 3);
    zip_add(&zip, "image.npy", a, 0, 0);
    zip_add(&zip, "label.npy", b, 8, 0);
    struct slice file = zip_end(&zip);
    assert_int_equal(npz_read(arena, file, SLICE("image"), &tensor, &err), 0);
    assert_string_equal(tensor_words(arena, &tensor), "UINT8 [2]");
    assert_int_equal(npz_read(arena, file, SLICE("label"), &tensor, &err), 0);
    assert_memory_equal(tensor.data.data, "xyz", 3);
    assert_int_equal(npz_read(arena, file, SLICE("other"), &tensor, &err), ERR_NOT_FOUND);
    assert_int_equal(npz_read(arena, file, (struct slice){}, &tensor, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "2 arrays"));

    zip_add(&other, "whatever.npy", a, 0, 0);
    assert_int_equal(npz_read(arena, zip_end(&other), (struct slice){}, &tensor, &err), 0);

    zip_add(&bomb, "x.npy", a, 8, 1u << 30);
    assert_int_equal(npz_read(arena, zip_end(&bomb), SLICE("x"), &tensor, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "as large as it says"));
    zip_add(&method, "x.npy", a, 14, 0);
    assert_int_equal(npz_read(arena, zip_end(&method), SLICE("x"), &tensor, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "method 14"));
}

/* Each datatype, two shapes, and what is read again. */
static void test_npz_written(void **state)
{
    static const char words[] = "\1\0\0\0a\0\0\0\0\3\0\0\0b\0c";
    char path[] = "/tmp/perigee-npz-XXXXXX";
    static char data[16], text[1 << 16];
    struct npz *npz = NULL;
    struct err err = {};
    int fd = mkstemp(path);
    (void)state;
    assert_true(fd >= 0);
    close(fd);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 37);
    assert_int_equal(npz_begin(arena, path, &npz, &err), 0);
    for (int type = 1; type < TENSOR_TYPE_COUNT; type++) {
        struct tensor_file tensor = { .datatype = (enum tensor_type)type };
        size_t bytes = tensor_type_bytes(tensor.datatype);
        tensor.shape = (struct tensor_shape){ 2, { 2, bytes ? 16 / (2 * (int64_t)bytes) : 0 } };
        tensor.data = (struct slice){ data, bytes ? 16 : 0 };
        if (type == TENSOR_BYTES) {
            tensor.shape = (struct tensor_shape){ 1, { 3 } };
            tensor.data = (struct slice){ words, sizeof words - 1 };
        }
        assert_int_equal(npz_add(npz, slice_of(tensor_type_name(tensor.datatype)), &tensor, &err),
                         0);
    }
    struct tensor_file scalar = { TENSOR_FP64, {}, { data, 8 } };
    assert_int_equal(npz_add(npz, SLICE("a/b \xc3\xa9"), &scalar, &err), 0);
    assert_int_equal(npz_add(npz, SLICE("/fc/a..b/.../c"), &scalar, &err), 0);
    assert_int_equal(npz_add(npz, SLICE("a/../b"), &scalar, &err), ERR_BAD_INPUT);
    assert_int_equal(npz_add(npz, SLICE(".."), &scalar, &err), ERR_BAD_INPUT);
    assert_int_equal(npz_add(npz, SLICE("a\\b"), &scalar, &err), ERR_BAD_INPUT);
    assert_int_equal(npz_end(npz, 0, &err), 0);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    struct slice all = { text, fread(text, 1, sizeof text, file) };
    fclose(file);
    for (int type = 1; type < TENSOR_TYPE_COUNT; type++) {
        struct tensor_file got;
        const char *name = tensor_type_name((enum tensor_type)type);
        assert_int_equal(npz_read(arena, all, slice_of(name), &got, &err), 0);
        assert_int_equal((int)got.datatype, type == TENSOR_BF16 ? TENSOR_FP32 : type);
        if (type == TENSOR_BYTES) {
            assert_int_equal(got.shape.rank, 1);
            assert_true(slice_equal(got.data, (struct slice){ words, sizeof words - 1 }));
        } else if (type == TENSOR_BF16) {
            assert_true(got.shape.rank == 2 && got.shape.dims[1] == 4);
            for (size_t i = 0; i < 8; i++) /* the upper half of each */
                assert_memory_equal(got.data.data + 4 * i + 2, data + 2 * i, 2);
        } else {
            assert_int_equal(got.shape.rank, 2);
            assert_true(slice_equal(got.data, (struct slice){ data, 16 }));
        }
    }
    struct tensor_file got;
    assert_int_equal(npz_read(arena, all, SLICE("a/b \xc3\xa9"), &got, &err), 0);
    assert_true(got.shape.rank == 0 && got.data.size == 8);
    /* What was begun and given up leaves what was there. */
    assert_int_equal(npz_begin(arena, path, &npz, &err), 0);
    assert_int_equal(npz_end(npz, ERR_TOO_LARGE, &err), ERR_TOO_LARGE);
    assert_int_equal(access(path, R_OK), 0);
    unlink(path);
}

static void test_npz_cut_anywhere(void **state)
{
    static struct zip zip;
    struct tensor_file tensor;
    (void)state;
    zip_add(&zip, "x.npy", npy(HEADER("|u1", "False", "(2,)"), "ab", 2), 8, 0);
    struct slice whole = zip_end(&zip);
    for (size_t size = 0; size < whole.size; size++) {
        char *part = malloc(size ? size : 1);
        memcpy(part, whole.data, size);
        assert_true(npz_read(arena, (struct slice){ part, size }, SLICE("x"), &tensor, NULL) < 0);
        free(part);
    }
}

/* ---- pictures ------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    struct image_spec spec;
    const char *error;
} spec_rows[] = {
    { "8x6,gray,flat,0:16,invert", { 8, 6, 1, IMAGE_FLAT, 0, 16, true }, NULL },
    { "rgb,HWC,-1:1", { 4, 4, 3, IMAGE_HWC, -1, 1, false }, NULL },
    { "invert", { 4, 4, 1, IMAGE_FLAT, 0, 255, true }, NULL },
    { "invert=false", { 4, 4, 1, IMAGE_FLAT, 0, 255, false }, NULL },
    { "size=2x3,channels=3,layout=CHW,range=0:1,invert=true",
      { 2, 3, 3, IMAGE_CHW, 0, 1, true },
      NULL },
    { " width=9 , height=7 ", { 9, 7, 1, IMAGE_FLAT, 0, 255, false }, NULL },
    { "", {}, "''" },
    { "8x", {}, "'8x'" },
    { "0x8", {}, "'0x8'" },
    { "8x99999", {}, "'8x99999'" },
    { "0:", {}, "'0:'" },
    { ":", {}, "':'" },
    { "0:nan", {}, "'0:nan'" },
    { "0:1:2", {}, "'0:1:2'" },
    { "invert=maybe", {}, "'invert=maybe'" },
    { "channels=2", {}, "'channels=2'" },
    { "colour=red", {}, "'colour=red'" },
    { "gray,,rgb", {}, "''" },
};

static void assert_spec(const struct image_spec *a, const struct image_spec *b)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_int_equal(a->channels, b->channels);
    assert_int_equal(a->layout, b->layout);
    assert_true(a->low == b->low && a->high == b->high);
    assert_int_equal(a->invert, b->invert);
}

static void test_image_spec(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof spec_rows / sizeof *spec_rows; i++) {
        struct image_spec spec = { 4, 4, 1, IMAGE_FLAT, 0, 255, false };
        struct err err = {};
        print_message("  '%s'\n", spec_rows[i].text);
        int r = image_spec_change(slice_of(spec_rows[i].text), &spec, &err);
        if (spec_rows[i].error) {
            assert_int_equal(r, ERR_BAD_INPUT);
            assert_non_null(strstr(err.message, spec_rows[i].error));
        } else {
            assert_int_equal(r, 0);
            assert_spec(&spec, &spec_rows[i].spec);
        }
    }
}

static const struct {
    const char *json;
    struct image_spec spec;
    const char *error;
} property_rows[] = {
    { "{\"width\":8,\"height\":8,\"channels\":1,\"layout\":\"flat\",\"range\":[0,16],"
      "\"invert\":true}",
      { 8, 8, 1, IMAGE_FLAT, 0, 16, true },
      NULL },
    { "{\"width\":2,\"height\":3}", { 2, 3, 1, IMAGE_FLAT, 0, 255, false }, NULL },
    { "{\"width\":8}", {}, "'height' is missing" },
    { "{\"width\":0,\"height\":1}", {}, "width and height" },
    { "{\"width\":8,\"height\":8,\"channels\":2}", {}, "channels" },
    { "{\"width\":8,\"height\":8,\"layout\":\"NHWC\"}", {}, "'NHWC' is no layout" },
    { "{\"width\":8,\"height\":8,\"range\":[0]}", {}, "range" },
    { "{\"width\":8,\"height\":8,\"range\":[0,\"a\"]}", {}, "range" },
    { "[]", {}, "perigee.image" },
    { "nonsense", {}, "perigee.image" },
};

static void test_image_property(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof property_rows / sizeof *property_rows; i++) {
        struct image_spec spec;
        struct err err = {};
        print_message("  %s\n", property_rows[i].json);
        int r = image_spec_parse_json(arena, slice_of(property_rows[i].json), &spec, &err);
        if (property_rows[i].error) {
            assert_int_equal(r, ERR_BAD_INPUT);
            assert_non_null(strstr(err.message, property_rows[i].error));
        } else {
            assert_int_equal(r, 0);
            assert_spec(&spec, &property_rows[i].spec);
        }
    }
}

static const struct {
    const char *name;
    struct tensor_file want;
    struct image_spec spec;
    bool guessed;
} guess_rows[] = {
    { "CHW",
      { TENSOR_FP32, { 4, { 1, 3, 20, 10 } }, {} },
      { 10, 20, 3, IMAGE_CHW, 0, 1, false },
      true },
    { "HWC",
      { TENSOR_UINT8, { 4, { -1, 20, 10, 3 } }, {} },
      { 10, 20, 3, IMAGE_HWC, 0, 255, false },
      true },
    { "gray",
      { TENSOR_FP16, { 3, { 1, 28, 28 } }, {} },
      { 28, 28, 1, IMAGE_CHW, 0, 1, false },
      true },
    { "of any size",
      { TENSOR_FP32, { 4, { -1, 3, -1, -1 } }, {} },
      { 0, 0, 3, IMAGE_CHW, 0, 1, false },
      true },
    { "flat", { TENSOR_FP32, { 2, { -1, 64 } }, {} }, { 0, 0, 3, IMAGE_CHW, 0, 1, false }, false },
    { "a scalar", { TENSOR_INT8, { 0, {} }, {} }, { 0, 0, 3, IMAGE_CHW, 0, 255, false }, false },
    { "no channels",
      { TENSOR_FP32, { 3, { 5, 28, 28 } }, {} },
      { 0, 0, 3, IMAGE_CHW, 0, 1, false },
      false },
};

static void test_image_guess(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof guess_rows / sizeof *guess_rows; i++) {
        struct image_spec spec;
        print_message("  %s\n", guess_rows[i].name);
        assert_int_equal(image_spec_guess(&guess_rows[i].want, &spec), guess_rows[i].guessed);
        assert_spec(&spec, &guess_rows[i].spec);
    }
}

static struct slice png_of(uint32_t width, uint32_t height, uint32_t format, const void *pixels)
{
    png_image png = {
        .version = PNG_IMAGE_VERSION, .width = width, .height = height, .format = format
    };
    png_alloc_size_t size = 0;
    assert_true(png_image_write_to_memory(&png, NULL, &size, 0, pixels, 0, NULL));
    char *file = arena_alloc(arena, size);
    assert_true(png_image_write_to_memory(&png, file, &size, 0, pixels, 0, NULL));
    return (struct slice){ file, size };
}

static struct slice jpeg_of(uint32_t width, uint32_t height, uint8_t gray)
{
    struct jpeg_compress_struct jpeg = {};
    struct jpeg_error_mgr faults;
    unsigned char *data = NULL;
    unsigned long size = 0;
    jpeg.err = jpeg_std_error(&faults);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &data, &size);
    jpeg.image_width = width;
    jpeg.image_height = height;
    jpeg.input_components = 1;
    jpeg.in_color_space = JCS_GRAYSCALE;
    jpeg_set_defaults(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    JSAMPLE *row = arena_alloc(arena, width);
    memset(row, gray, width);
    while (jpeg.next_scanline < height)
        jpeg_write_scanlines(&jpeg, &row, 1);
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    struct slice file = arena_copy(arena, (struct slice){ (char *)data, size });
    free(data);
    return file;
}

static float number(const struct tensor_file *tensor, size_t index)
{
    float value;
    assert_true((index + 1) * sizeof value <= tensor->data.size);
    memcpy(&value, tensor->data.data + index * sizeof value, sizeof value);
    return value;
}

/* Left half black, right half white; 4 by 2. */
static void test_png_to_numbers(void **state)
{
    static const uint8_t pixels[] = { 0, 0, 255, 255, 0, 0, 255, 255 };
    const struct image_spec gray = { 2, 1, 1, IMAGE_FLAT, 0, 16, true };
    const struct image_spec rgb = { 2, 2, 3, IMAGE_CHW, -1, 1, false };
    const struct image_spec odd = { 3, 1, 1, IMAGE_HWC, 0, 1, false };
    struct image image;
    struct tensor_file tensor;
    struct err err = {};
    (void)state;
    struct slice file = png_of(4, 2, PNG_FORMAT_GRAY, pixels);
    assert_int_equal(image_decode(arena, file, &image, &err), 0);
    assert_int_equal(image_tensor(arena, &image, &gray, &tensor, &err), 0);
    assert_string_equal(tensor_words(arena, &tensor), "FP32 [1,2]");
    assert_true(number(&tensor, 0) == 16 && number(&tensor, 1) == 0);
    assert_int_equal(image_tensor(arena, &image, &rgb, &tensor, &err), 0);
    assert_string_equal(tensor_words(arena, &tensor), "FP32 [1,3,2,2]");
    assert_true(number(&tensor, 4) == -1 && number(&tensor, 5) == 1);
    assert_int_equal(image_tensor(arena, &image, &odd, &tensor, &err), 0);
    assert_string_equal(tensor_words(arena, &tensor), "FP32 [1,1,3,1]");
    assert_true(fabsf(number(&tensor, 1) - 0.5f) < 1e-6f); /* half of each */
}

/* Three pixels to two: the one between is a third of each. */
static void test_edges_count_by_their_part(void **state)
{
    static const uint8_t pixels[] = { 0, 90, 255 };
    const struct image_spec two = { 2, 1, 1, IMAGE_FLAT, 0, 255, false };
    struct image image;
    struct tensor_file tensor;
    struct err err = {};
    (void)state;
    assert_int_equal(image_decode(arena, png_of(3, 1, PNG_FORMAT_GRAY, pixels), &image, &err), 0);
    assert_int_equal(image_tensor(arena, &image, &two, &tensor, &err), 0);
    assert_true(fabsf(number(&tensor, 0) - 30) < 1e-3f);
    assert_true(fabsf(number(&tensor, 1) - 200) < 1e-3f);
}

static void test_transparent_is_white(void **state)
{
    static const uint8_t pixels[] = { 9, 9, 9, 0, 0, 0, 0, 255 };
    struct image image;
    (void)state;
    assert_int_equal(image_decode(arena, png_of(2, 1, PNG_FORMAT_RGBA, pixels), &image, NULL), 0);
    assert_int_equal(image.rgb[0], 255);
    assert_int_equal(image.rgb[3], 0);
}

static void test_jpeg(void **state)
{
    struct image image;
    struct err err = {};
    (void)state;
    struct slice file = jpeg_of(20, 10, 128);
    assert_int_equal(image_decode(arena, file, &image, &err), 0);
    assert_int_equal(image.width, 20);
    assert_int_equal(image.height, 10);
    assert_in_range(image.rgb[17], 126, 130);
    struct slice cut = { file.data, file.size - 20 };
    assert_int_equal(image_decode(arena, cut, &image, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "JPEG"));
}

static void test_pictures_refused(void **state)
{
    static const uint8_t pixels[16] = { 1 };
    struct image image;
    struct err err = {};
    (void)state;
    struct slice png = png_of(4, 4, PNG_FORMAT_GRAY, pixels);
    for (size_t size = 0; size + 12 < png.size; size++) /* without the IEND it can be read */
        assert_true(image_decode(arena, (struct slice){ png.data, size }, &image, &err) < 0);
    assert_int_equal(image_decode(arena, SLICE("GIF89a......"), &image, &err), ERR_BAD_INPUT);
    assert_int_equal(image_decode(arena, SLICE("\xff\xd8\xff nonsense"), &image, &err),
                     ERR_BAD_INPUT);
    /* A head that claims 60,000 by 60,000 pixels. */
    char *large = arena_string(arena, png);
    put(large + 16, 0x60ea0000, 4);
    put(large + 20, 0x60ea0000, 4);
    uint32_t crc = (uint32_t)crc32(0, (const Bytef *)large + 12, 17);
    for (int i = 0; i < 4; i++)
        large[29 + i] = (char)(crc >> (24 - 8 * i));
    assert_true(image_decode(arena, (struct slice){ large, png.size }, &image, &err) < 0);
}

/* ---- numbers to another datatype ------------------------------------------------------------ */

static const struct {
    const char *name;
    enum tensor_type from, to;
    const char *data;
    size_t bytes;
    const char *wanted;
    size_t wanted_bytes;
    const char *error;
} convert_rows[] = {
    { "widened", TENSOR_UINT8, TENSOR_INT32, "\xff", 1, "\xff\0\0\0", 4, NULL },
    { "the sign kept", TENSOR_INT8, TENSOR_INT64, "\xff", 1, "\xff\xff\xff\xff\xff\xff\xff\xff", 8,
      NULL },
    { "the highest stays exact", TENSOR_UINT64, TENSOR_UINT64, "\xff\xff\xff\xff\xff\xff\xff\xff",
      8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, NULL },
    { "the lowest", TENSOR_INT64, TENSOR_INT64, "\0\0\0\0\0\0\0\x80", 8, "\0\0\0\0\0\0\0\x80", 8,
      NULL },
    { "to a real", TENSOR_INT16, TENSOR_FP32, "\2\0", 2, "\0\0\0\x40", 4, NULL },
    { "a real that is whole", TENSOR_FP32, TENSOR_INT8, "\0\0\0\xc0", 4, "\xfe", 1, NULL },
    { "to FP16", TENSOR_FP32, TENSOR_FP16, "\0\0\x80\x3f", 4, "\0\x3c", 2, NULL },
    { "to BF16", TENSOR_FP64, TENSOR_BF16, "\0\0\0\0\0\0\xf0\x3f", 8, "\x80\x3f", 2, NULL },
    { "infinity stays", TENSOR_FP32, TENSOR_FP16, "\0\0\x80\x7f", 4, "\0\x7c", 2, NULL },
    { "to a truth", TENSOR_INT32, TENSOR_BOOL, "\1\0\0\0\0\0\0\0", 8, "\1\0", 2, NULL },
    { "no number is twice true", TENSOR_INT32, TENSOR_BOOL, "\0\0\0\0\2\0\0\0", 8, NULL, 0,
      "element 1 (2) cannot be BOOL" },
    { "above", TENSOR_INT16, TENSOR_INT8, "\x80\0", 2, NULL, 0, "element 0 (128) cannot be INT8" },
    { "below", TENSOR_INT16, TENSOR_INT8, "\x7f\xff", 2, NULL, 0, "element 0 (-129)" },
    { "below nought", TENSOR_INT8, TENSOR_UINT64, "\0\xff", 2, NULL, 0, "element 1 (-1)" },
    { "above INT64", TENSOR_UINT64, TENSOR_INT64, "\0\0\0\0\0\0\0\x80", 8, NULL, 0, "element 0" },
    { "a part of one", TENSOR_FP32, TENSOR_INT32, "\0\0\0\x3f", 4, NULL, 0, "element 0 (0.5)" },
    { "no number", TENSOR_FP32, TENSOR_INT32, "\0\0\xc0\x7f", 4, NULL, 0, "element 0" },
    { "infinity", TENSOR_FP64, TENSOR_UINT8, "\0\0\0\0\0\0\xf0\x7f", 8, NULL, 0, "element 0" },
    { "2 to the 64th", TENSOR_FP32, TENSOR_UINT64, "\0\0\x80\x5f", 4, NULL, 0, "element 0" },
    { "too large for FP16", TENSOR_FP32, TENSOR_FP16, "\0\xff\x7f\x47", 4, NULL, 0,
      "element 0 (65535) cannot be FP16" },
    { "too large for FP32", TENSOR_FP64, TENSOR_FP32, "\0\0\0\0\0\0\xf0\x7e", 8, NULL, 0,
      "element 0" },
    { "no strings", TENSOR_BYTES, TENSOR_FP32, "\0\0\0\0", 4, NULL, 0, "BYTES cannot become FP32" },
    { "to no strings", TENSOR_FP32, TENSOR_BYTES, "\0\0\0\0", 4, NULL, 0,
      "FP32 cannot become BYTES" },
};

static void test_convert(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof convert_rows / sizeof *convert_rows; i++) {
        struct tensor_file tensor = { .datatype = convert_rows[i].from,
                                      .data = { convert_rows[i].data, convert_rows[i].bytes } };
        struct err err = {};
        print_message("  %s\n", convert_rows[i].name);
        int r = tensor_convert(arena, &tensor, convert_rows[i].to, &err);
        if (convert_rows[i].error) {
            assert_int_equal(r, ERR_BAD_INPUT);
            assert_non_null(strstr(err.message, convert_rows[i].error));
            continue;
        }
        assert_int_equal(r, 0);
        assert_int_equal(tensor.data.size, convert_rows[i].wanted_bytes);
        assert_memory_equal(tensor.data.data, convert_rows[i].wanted, tensor.data.size);
    }
}

/* Every datatype to every other, of nought and one: all hold both. */
static void test_convert_all(void **state)
{
    (void)state;
    for (int from = TENSOR_BOOL; from < TENSOR_TYPE_COUNT; from++)
        for (int to = TENSOR_BOOL; to < TENSOR_TYPE_COUNT; to++) {
            struct tensor_file tensor = { .datatype = TENSOR_UINT8, .data = { "\0\1", 2 } };
            if (from == TENSOR_BYTES || to == TENSOR_BYTES)
                continue;
            assert_int_equal(tensor_convert(arena, &tensor, from, NULL), 0);
            assert_int_equal(tensor_convert(arena, &tensor, to, NULL), 0);
            assert_int_equal(tensor_convert(arena, &tensor, TENSOR_UINT8, NULL), 0);
            assert_memory_equal(tensor.data.data, "\0\1", 2);
        }
}

static const struct {
    const char *name;
    struct tensor_shape have, want;
    const char *words; /* NULL: refused */
} fit_rows[] = {
    { "the same", { 2, { 3, 4 } }, { 2, { 3, 4 } }, "FP32 [3,4]" },
    { "any size", { 2, { 3, 4 } }, { 2, { -1, 4 } }, "FP32 [3,4]" },
    { "one of a batch", { 1, { 4 } }, { 2, { -1, 4 } }, "FP32 [1,4]" },
    { "one of a batch of one", { 2, { 3, 4 } }, { 3, { 1, 3, 4 } }, "FP32 [1,3,4]" },
    { "flattened", { 2, { 8, 8 } }, { 2, { -1, 64 } }, "FP32 [1,64]" },
    { "a batch found", { 1, { 128 } }, { 2, { -1, 64 } }, "FP32 [2,64]" },
    { "a scalar", { 0, {} }, { 1, { 1 } }, "FP32 [1]" },
    { "to a scalar", { 1, { 1 } }, { 0, {} }, "FP32 []" },
    { "nothing in it", { 1, { 0 } }, { 2, { -1, 64 } }, "FP32 [0,64]" },
    { "too short", { 1, { 63 } }, { 2, { -1, 64 } }, NULL },
    { "too long", { 1, { 65 } }, { 2, { 1, 64 } }, NULL },
    { "two unknown", { 1, { 64 } }, { 3, { -1, -1, 2 } }, NULL },
    { "absurd", { 2, { INT64_MAX, INT64_MAX } }, { 1, { -1 } }, NULL },
    { "absurdly wanted", { 1, { 4 } }, { 3, { INT64_MAX, INT64_MAX, -1 } }, NULL },
};

static void test_fit(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof fit_rows / sizeof *fit_rows; i++) {
        struct tensor_file tensor = { .datatype = TENSOR_FP32, .shape = fit_rows[i].have };
        const struct tensor_file want = { .datatype = TENSOR_FP32, .shape = fit_rows[i].want };
        print_message("  %s\n", fit_rows[i].name);
        int r = tensor_fit(&tensor, &want, NULL);
        assert_int_equal(r, fit_rows[i].words ? 0 : ERR_BAD_INPUT);
        if (fit_rows[i].words)
            assert_string_equal(tensor_words(arena, &tensor), fit_rows[i].words);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_npy),
        cmocka_unit_test(test_npy_cut_anywhere),
        cmocka_unit_test(test_npz),
        cmocka_unit_test(test_npz_written),
        cmocka_unit_test(test_npz_cut_anywhere),
        cmocka_unit_test(test_image_spec),
        cmocka_unit_test(test_image_property),
        cmocka_unit_test(test_image_guess),
        cmocka_unit_test(test_png_to_numbers),
        cmocka_unit_test(test_edges_count_by_their_part),
        cmocka_unit_test(test_transparent_is_white),
        cmocka_unit_test(test_jpeg),
        cmocka_unit_test(test_pictures_refused),
        cmocka_unit_test(test_convert),
        cmocka_unit_test(test_convert_all),
        cmocka_unit_test(test_fit),
    };
    return cmocka_run_group_tests_name("tensor_file", tests, setup, teardown);
}
