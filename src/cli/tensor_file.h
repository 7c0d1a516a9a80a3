/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensor_file.h -- files that people have, as tensors that a model takes: .npy, .npz, pictures.
 *
 * Everything here reads outside bytes: sizes are bounded before anything is allocated for them, and
 * errors say what is wrong with the file. Tensors lie in the arena, row-major, little endian, BYTES
 * as in the protocol's binary form.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/tensor.h"

#include "base/slice.h"

struct arena;
struct err;

#define TENSOR_FILE_BYTES_MAX (UINT64_C(1) << 30)

struct tensor_file {
    enum tensor_type datatype;
    struct tensor_shape shape;
    struct slice data;
};

/* NumPy's format 1 to 3 (numpy.lib.format): numbers, booleans, S and U strings. */
[[nodiscard]] int npy_read(struct arena *arena, struct slice file, struct tensor_file *ret,
                           struct err *err);
/* A member of a .npz: `name`, or the only one when it is empty. */
[[nodiscard]] int npz_read(struct arena *arena, struct slice file, struct slice name,
                           struct tensor_file *ret, struct err *err);

/* A .npz, an array at a time: BF16 as FP32, BYTES as S. With r < 0 npz_end() removes the file;
 * it returns r, or what went wrong. */
struct npz;
[[nodiscard]] int npz_begin(struct arena *arena, const char *path, struct npz **ret,
                            struct err *err);
[[nodiscard]] int npz_add(struct npz *npz, struct slice name, const struct tensor_file *tensor,
                          struct err *err);
[[nodiscard]] int npz_end(struct npz *npz, int r, struct err *err);

/* How pixels become numbers. */
struct image_spec {
    uint32_t width, height, channels; /* channels 1: gray, 3: RGB */
    enum { IMAGE_FLAT, IMAGE_HWC, IMAGE_CHW } layout;
    double low, high; /* of black and white */
    bool invert;      /* black becomes high */
};
/* The model's property perigee.image.<input>: JSON. */
[[nodiscard]] int image_spec_parse_json(struct arena *arena, struct slice json,
                                        struct image_spec *ret, struct err *err);
/* Changes on top of what `spec` says: "8x8,gray,flat,0:16,invert", "invert=false", or as pairs
 * size=, width=, height=, channels=, layout=, range=, invert=. */
[[nodiscard]] int image_spec_change(struct slice text, struct image_spec *spec, struct err *err);
/* From the shape alone: [.., C, H, W] or [.., H, W, C] with C 1 or 3, a width or height of any size
 * being 0; 0 to 1 for floats, else 0 to 255. false: the shape is none of these, and *ret is RGB,
 * CHW, of no size. */
bool image_spec_guess(const struct tensor_file *want, struct image_spec *ret);

/* 8-bit pixels, RGB; transparent ones on white. */
struct image {
    uint32_t width, height;
    const uint8_t *rgb;
};
[[nodiscard]] int image_decode(struct arena *arena, struct slice file, struct image *ret,
                               struct err *err); /* PNG or JPEG by its first bytes */
/* Resized by area averaging, as FP32, with the shape the layout has (a batch of 1 in front). A
 * width or height of 0 is the picture's own. */
[[nodiscard]] int image_tensor(struct arena *arena, const struct image *image,
                               const struct image_spec *spec, struct tensor_file *ret,
                               struct err *err);

/* Numbers to another datatype; out of range is an error with the index. The shape becomes `want`'s
 * when the elements fit: -1 dimensions filled in, a batch of 1 put in front. */
[[nodiscard]] int tensor_convert(struct arena *arena, struct tensor_file *tensor,
                                 enum tensor_type datatype, struct err *err);
[[nodiscard]] int tensor_fit(struct tensor_file *tensor, const struct tensor_file *want,
                             struct err *err);
/* An element of any datatype but BYTES: as a number, and as text of four digits. */
double tensor_element(const struct tensor_file *tensor, uint64_t index);
const char *tensor_element_text(struct arena *arena, const struct tensor_file *tensor,
                                uint64_t index);
/* "FP32 [1,64]" */
const char *tensor_words(struct arena *arena, const struct tensor_file *tensor);
