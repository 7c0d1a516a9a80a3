/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pictures as tensors: libpng and libjpeg-turbo decode, area averaging resizes.
 */
#include <math.h>
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jpeglib.h> /* after stdio.h */
#include <jerror.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "cli/tensor_file.h"

enum { IMAGE_SIDE_MAX = 16384, MODEL_SIDE_MAX = 4096 };
#define IMAGE_PIXELS_MAX (UINT64_C(64) << 20)

/* ---- how pixels become numbers --------------------------------------------------------------- */

static int spec_check(const struct image_spec *spec, struct err *err)
{
    if (spec->width < 1 || spec->height < 1 || spec->width > MODEL_SIDE_MAX ||
        spec->height > MODEL_SIDE_MAX)
        return err_set(err, ERR_BAD_INPUT, "image: width and height are 1 to %d", MODEL_SIDE_MAX);
    if (spec->channels != 1 && spec->channels != 3)
        return err_set(err, ERR_BAD_INPUT, "image: channels are 1 (gray) or 3 (RGB)");
    if (!isfinite(spec->low) || !isfinite(spec->high))
        return err_set(err, ERR_BAD_INPUT, "image: the range must be finite");
    return 0;
}

static int layout_parse(struct slice text, struct image_spec *ret, struct err *err)
{
    if (slice_is(text, "flat"))
        ret->layout = IMAGE_FLAT;
    else if (slice_is(text, "HWC"))
        ret->layout = IMAGE_HWC;
    else if (slice_is(text, "CHW"))
        ret->layout = IMAGE_CHW;
    else
        return err_set(err, ERR_BAD_INPUT, "image: '%s' is no layout (flat, HWC, CHW)",
                       ERR_SLICE(text));
    return 0;
}

int image_spec_parse_json(struct arena *arena, struct slice json, struct image_spec *ret,
                          struct err *err)
{
    yyjson_val *root, *range = NULL;
    uint64_t width, height, channels = 1;
    struct slice layout = SLICE("flat");
    *ret = (struct image_spec){ .high = 255 };
    if (json_parse(arena, json, NULL, &root, err) < 0 ||
        json_get_u64(root, "width", JSON_REQUIRED, &width, err) < 0 ||
        json_get_u64(root, "height", JSON_REQUIRED, &height, err) < 0 ||
        json_get_u64(root, "channels", JSON_OPTIONAL, &channels, err) < 0 ||
        json_get_string(root, "layout", JSON_OPTIONAL, &layout, err) < 0 ||
        json_get_bool(root, "invert", JSON_OPTIONAL, &ret->invert, err) < 0 ||
        json_get_array(root, "range", JSON_OPTIONAL, &range, err) < 0 ||
        layout_parse(layout, ret, err) < 0)
        return err_wrap(err, "the model's perigee.image property");
    yyjson_val *low = yyjson_arr_get(range, 0), *high = yyjson_arr_get(range, 1);
    if (range && (yyjson_arr_size(range) != 2 || !yyjson_is_num(low) || !yyjson_is_num(high)))
        return err_set(err, ERR_BAD_INPUT,
                       "the model's perigee.image property: the range wants two numbers");
    if (range) {
        ret->low = yyjson_get_num(low);
        ret->high = yyjson_get_num(high);
    }
    ret->width = width > MODEL_SIDE_MAX ? 0 : (uint32_t)width;
    ret->height = height > MODEL_SIDE_MAX ? 0 : (uint32_t)height;
    ret->channels = channels > 3 ? 0 : (uint32_t)channels;
    return spec_check(ret, err);
}

static bool side_parse(struct slice word, uint32_t *ret)
{
    uint64_t side;
    if (!slice_u64(word, &side) || side < 1 || side > MODEL_SIDE_MAX)
        return false;
    *ret = (uint32_t)side;
    return true;
}

static bool size_parse(struct slice word, struct image_spec *ret)
{
    struct slice rest = word, first = slice_cut(&rest, 'x');
    struct image_spec size = *ret;
    if (!rest.data || !side_parse(first, &size.width) || !side_parse(rest, &size.height))
        return false;
    *ret = size;
    return true;
}

static bool range_parse(struct slice word, struct image_spec *ret)
{
    char text[64], *end;
    if (word.size >= sizeof text || !memchr(word.data, ':', word.size))
        return false;
    memcpy(text, word.data, word.size);
    text[word.size] = '\0';
    double low = strtod(text, &end);
    if (*end != ':' || end == text)
        return false;
    char *second = end + 1;
    double high = strtod(second, &end);
    if (*end || end == second || !isfinite(low) || !isfinite(high))
        return false;
    ret->low = low;
    ret->high = high;
    return true;
}

static bool bool_parse(struct slice word, bool *ret)
{
    *ret = slice_is(word, "true");
    return *ret || slice_is(word, "false");
}

static bool channels_parse(struct slice word, struct image_spec *ret)
{
    if (!slice_is(word, "1") && !slice_is(word, "3"))
        return false;
    ret->channels = word.data[0] == '1' ? 1 : 3;
    return true;
}

/* key=value */
static bool pair_take(struct slice key, struct slice value, struct image_spec *ret)
{
    if (slice_is(key, "size"))
        return size_parse(value, ret);
    if (slice_is(key, "width"))
        return side_parse(value, &ret->width);
    if (slice_is(key, "height"))
        return side_parse(value, &ret->height);
    if (slice_is(key, "channels"))
        return channels_parse(value, ret);
    if (slice_is(key, "layout"))
        return layout_parse(value, ret, NULL) == 0;
    if (slice_is(key, "range"))
        return range_parse(value, ret);
    return slice_is(key, "invert") && bool_parse(value, &ret->invert);
}

static bool word_take(struct slice word, struct image_spec *ret)
{
    struct slice value = word, key = slice_cut(&value, '=');
    if (value.data)
        return pair_take(key, value, ret);
    if (slice_is(word, "gray") || slice_is(word, "grey"))
        ret->channels = 1;
    else if (slice_is(word, "rgb") || slice_is(word, "RGB"))
        ret->channels = 3;
    else if (slice_is(word, "invert"))
        ret->invert = true;
    else
        return size_parse(word, ret) || range_parse(word, ret) ||
               layout_parse(word, ret, NULL) == 0;
    return true;
}

int image_spec_change(struct slice text, struct image_spec *spec, struct err *err)
{
    while (text.data) {
        struct slice word = slice_trim(slice_cut(&text, ','));
        if (!word_take(word, spec))
            return err_set(err, ERR_BAD_INPUT,
                           "--image: '%s' is none of WIDTHxHEIGHT, gray, rgb, flat, HWC, CHW, "
                           "LOW:HIGH, invert, invert=false",
                           ERR_SLICE(word));
    }
    return 0;
}

/* -1, any size, becomes 0. */
static uint32_t side_of(int64_t dim)
{
    return dim > 0 && dim <= MODEL_SIDE_MAX ? (uint32_t)dim : 0;
}

bool image_spec_guess(const struct tensor_file *want, struct image_spec *ret)
{
    bool floats = want->datatype == TENSOR_FP32 || want->datatype == TENSOR_FP16 ||
                  want->datatype == TENSOR_FP64 || want->datatype == TENSOR_BF16;
    *ret = (struct image_spec){ .channels = 3, .layout = IMAGE_CHW, .high = floats ? 1 : 255 };
    if (want->shape.rank < 3)
        return false;
    const int64_t *d = want->shape.dims + (want->shape.rank - 3);
    bool first = d[0] == 1 || d[0] == 3;
    if (!first && d[2] != 1 && d[2] != 3)
        return false;
    ret->layout = first ? IMAGE_CHW : IMAGE_HWC;
    ret->channels = (uint32_t)(first ? d[0] : d[2]);
    ret->height = side_of(first ? d[1] : d[0]);
    ret->width = side_of(first ? d[2] : d[1]);
    return true;
}

/* ---- decoding -------------------------------------------------------------------------------- */

static int size_check(uint64_t width, uint64_t height, struct err *err)
{
    if (width == 0 || height == 0 || width > IMAGE_SIDE_MAX || height > IMAGE_SIDE_MAX ||
        width * height > IMAGE_PIXELS_MAX)
        return err_set(err, ERR_TOO_LARGE, "the picture is %llu by %llu pixels; at most 64 million",
                       (unsigned long long)width, (unsigned long long)height);
    return 0;
}

static int png_decode(struct arena *arena, struct slice file, struct image *ret, struct err *err)
{
    png_image png = { .version = PNG_IMAGE_VERSION };
    if (!png_image_begin_read_from_memory(&png, file.data, file.size))
        return err_set(err, ERR_BAD_INPUT, "the PNG cannot be read: %s", ERR_TEXT(png.message));
    int r = size_check(png.width, png.height, err);
    if (r < 0) {
        png_image_free(&png);
        return r;
    }
    png.format = PNG_FORMAT_RGB;
    png_color white = { 255, 255, 255 };
    uint8_t *rgb = arena_alloc(arena, PNG_IMAGE_SIZE(png));
    if (!png_image_finish_read(&png, &white, rgb, 0, NULL))
        return err_set(err, ERR_BAD_INPUT, "the PNG cannot be read: %s", ERR_TEXT(png.message));
    *ret = (struct image){ png.width, png.height, rgb };
    return 0;
}

struct jpeg_fault {
    struct jpeg_error_mgr manager;
    jmp_buf back;
    bool cut;
    char text[JMSG_LENGTH_MAX];
};

static void on_jpeg_fault(j_common_ptr info)
{
    struct jpeg_fault *fault = (struct jpeg_fault *)info->err;
    info->err->format_message(info, fault->text);
    longjmp(fault->back, 1); /* libjpeg has no other way out */
}

/* Warnings: of a picture that can be read all the same, but for one that ends too early. */
static void on_jpeg_message(j_common_ptr info, int level)
{
    struct jpeg_fault *fault = (struct jpeg_fault *)info->err;
    if (level < 0 &&
        (info->err->msg_code == JWRN_JPEG_EOF || info->err->msg_code == JWRN_HIT_MARKER))
        fault->cut = true;
}

static int jpeg_decode(struct arena *arena, struct slice file, struct image *ret, struct err *err)
{
    struct jpeg_decompress_struct jpeg = {};
    struct jpeg_fault fault = {};
    jpeg.err = jpeg_std_error(&fault.manager);
    fault.manager.error_exit = on_jpeg_fault;
    fault.manager.emit_message = on_jpeg_message;
    if (setjmp(fault.back)) {
        jpeg_destroy_decompress(&jpeg);
        return err_set(err, ERR_BAD_INPUT, "the JPEG cannot be read: %s", ERR_TEXT(fault.text));
    }
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, (const unsigned char *)file.data, file.size);
    jpeg_read_header(&jpeg, TRUE);
    int r = size_check(jpeg.image_width, jpeg.image_height, err);
    if (r < 0) {
        jpeg_destroy_decompress(&jpeg);
        return r;
    }
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    size_t stride = (size_t)jpeg.output_width * 3;
    uint8_t *rgb = arena_calloc(arena, jpeg.output_height, stride);
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = rgb + jpeg.output_scanline * stride;
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    *ret = (struct image){ jpeg.output_width, jpeg.output_height, rgb };
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
    return fault.cut ? err_set(err, ERR_BAD_INPUT, "the JPEG is cut") : 0;
}

int image_decode(struct arena *arena, struct slice file, struct image *ret, struct err *err)
{
    if (slice_starts(file, SLICE("\x89PNG\r\n\x1a\n")))
        return png_decode(arena, file, ret, err);
    if (slice_starts(file, SLICE("\xff\xd8\xff")))
        return jpeg_decode(arena, file, ret, err);
    return err_set(err, ERR_BAD_INPUT, "neither a PNG nor a JPEG");
}

/* ---- to a tensor ----------------------------------------------------------------------------- */

/* The mean of the picture over one target pixel's area, edges counted by their part in it. */
static void area_mean(const struct image *image, double x0, double x1, double y0, double y1,
                      double mean[static 3])
{
    double weight_all = 0;
    mean[0] = mean[1] = mean[2] = 0;
    for (uint32_t y = (uint32_t)y0; y < image->height && y < y1; y++) {
        double wy = fmin(y + 1.0, y1) - fmax(y, y0);
        for (uint32_t x = (uint32_t)x0; x < image->width && x < x1; x++) {
            double weight = wy * (fmin(x + 1.0, x1) - fmax(x, x0));
            const uint8_t *pixel = image->rgb + ((size_t)y * image->width + x) * 3;
            for (int c = 0; c < 3; c++)
                mean[c] += weight * pixel[c];
            weight_all += weight;
        }
    }
    for (int c = 0; c < 3; c++)
        mean[c] = weight_all > 0 ? mean[c] / weight_all : 0;
}

static void shape_set(const struct image_spec *spec, struct tensor_file *ret)
{
    int64_t h = spec->height, w = spec->width, c = spec->channels;
    *ret = (struct tensor_file){ .datatype = TENSOR_FP32, .shape = { 4, { 1, h, w, c } } };
    if (spec->layout == IMAGE_CHW) {
        ret->shape.dims[1] = c;
        ret->shape.dims[2] = h;
        ret->shape.dims[3] = w;
    } else if (spec->layout == IMAGE_FLAT) {
        ret->shape.rank = 2;
        ret->shape.dims[1] = h * w * c;
    }
}

int image_tensor(struct arena *arena, const struct image *image, const struct image_spec *spec,
                 struct tensor_file *ret, struct err *err)
{
    int r = spec_check(spec, err);
    if (r < 0)
        return r;
    size_t plane = (size_t)spec->width * spec->height;
    float *numbers = arena_calloc(arena, plane * spec->channels, sizeof *numbers);
    for (uint32_t y = 0; y < spec->height; y++)
        for (uint32_t x = 0; x < spec->width; x++) {
            double rgb[3], sx = (double)image->width / spec->width;
            double sy = (double)image->height / spec->height;
            area_mean(image, x * sx, (x + 1) * sx, y * sy, (y + 1) * sy, rgb);
            if (spec->channels == 1) /* luma of Rec. 601, as PNG and JPEG viewers do */
                rgb[0] = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
            for (uint32_t c = 0; c < spec->channels; c++) {
                double part = (spec->invert ? 255 - rgb[c] : rgb[c]) / 255;
                size_t at = (size_t)y * spec->width + x;
                at = spec->layout == IMAGE_CHW ? c * plane + at : at * spec->channels + c;
                numbers[at] = (float)(spec->low + part * (spec->high - spec->low));
            }
        }
    shape_set(spec, ret);
    ret->data = (struct slice){ (const char *)numbers, plane * spec->channels * sizeof *numbers };
    return 0;
}
