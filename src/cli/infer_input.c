/* SPDX-License-Identifier: Apache-2.0 */
/* Files as a model's inputs: arrays, pictures, JSON. */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/infer_own.h"
#include "cli/view.h"

enum { JSON_BYTES_MAX = 16 << 20 };

/* ---- what the model wants -------------------------------------------------------------------- */

static bool want_find(struct infer *infer, struct slice name, struct tensor_file *ret)
{
    size_t index, count, d, dims;
    yyjson_val *item, *dim;
    yyjson_arr_foreach(json_member(infer->metadata, "inputs"), index, count, item)
    {
        if (!slice_equal(view_text(item, "name"), name))
            continue;
        *ret = (struct tensor_file){ .datatype = tensor_type_of(view_text(item, "datatype")) };
        yyjson_arr_foreach(json_member(item, "shape"), d, dims, dim)
        {
            if (ret->shape.rank < TENSOR_RANK_MAX)
                ret->shape.dims[ret->shape.rank++] = yyjson_get_sint(dim);
        }
        return true;
    }
    return false;
}

static const char *input_names(struct infer *infer)
{
    const char *text = "";
    size_t index, count;
    yyjson_val *item;
    yyjson_arr_foreach(json_member(infer->metadata, "inputs"), index, count, item) text =
        arena_format(infer->cli->arena, "%s%s%.*s", text, index ? ", " : "",
                     SLICE_FMT(view_text(item, "name")));
    return text;
}

/* ---- pictures -------------------------------------------------------------------------------- */

/* What the model says, else what its shape says, and on top of it --image; one that gives a size
 * stands for itself. */
static int image_spec_find(struct infer *infer, struct slice name, const struct tensor_file *want,
                           struct image_spec *ret, const char **ret_why, struct err *err)
{
    struct cli *cli = infer->cli;
    const char *given = cli_option_value(cli, "--image");
    const char *key = arena_format(cli->arena, "perigee.image.%.*s", SLICE_FMT(name));
    struct slice property = view_text(infer->properties, key);
    struct image_spec alone = {};
    int r = given ? image_spec_change(slice_of(given), &alone, err) : 0;
    if (r < 0)
        return cli_usage(cli, r);
    if (property.size && !alone.width) {
        *ret_why = given ? "as the model and --image say" : "as the model says";
        r = image_spec_parse_json(cli->arena, property, ret, err);
    } else {
        *ret_why = given ? "--image" : "guessed from the shape";
        bool guessed = image_spec_guess(want, ret) || given;
        if (!guessed && infer->untold)
            r = err_set(err, ERR_BAD_INPUT,
                        "control was not asked how pixels become the model's input (%s); say it "
                        "with --image, e.g. --image 224x224,rgb,CHW,0:1",
                        infer->untold);
        else if (!guessed)
            r = err_set(err, ERR_BAD_INPUT,
                        "the model does not say how pixels become its input; say it with --image, "
                        "e.g. --image 224x224,rgb,CHW,0:1");
    }
    return r == 0 && given ? image_spec_change(slice_of(given), ret, err) : r;
}

static int picture_read(struct infer *infer, struct slice file, struct slice name,
                        const struct tensor_file *want, struct tensor_file *ret, struct err *err)
{
    struct cli *cli = infer->cli;
    struct image image;
    struct image_spec spec = {};
    const char *why = "";
    int r = image_spec_find(infer, name, want, &spec, &why, err);
    if (r == 0)
        r = image_decode(cli->arena, file, &image, err);
    if (r != 0)
        return r;
    spec.width = spec.width ? spec.width : image.width;
    spec.height = spec.height ? spec.height : image.height;
    r = image_tensor(cli->arena, &image, &spec, ret, err);
    if (r == 0 && !cli->json)
        fprintf(stderr, "%.*s: %ux%u picture to %ux%u, %s, %g to %g%s (%s)\n", SLICE_FMT(name),
                image.width, image.height, spec.width, spec.height,
                spec.channels == 1 ? "gray" : "RGB", spec.low, spec.high,
                spec.invert ? ", inverted" : "", why);
    return r;
}

/* ---- JSON ----------------------------------------------------------------------------------- */

/* All that is not a list, in order. */
static uint64_t leaves_write(struct json_writer *w, yyjson_val *at)
{
    size_t index, count;
    uint64_t leaves = 0;
    yyjson_val *item;
    if (!yyjson_is_arr(at)) {
        json_value(w, at);
        return 1;
    }
    yyjson_arr_foreach(at, index, count, item)
    {
        leaves += leaves_write(w, item);
    }
    return leaves;
}

/* Nested lists: their shape, by the first element of each depth; the gateway checks the rest. They
 * go as they were written where the model takes that shape, else flat. */
static int json_shape(struct cli *cli, struct slice file, const struct tensor_file *want,
                      struct input *ret, struct err *err)
{
    const struct json_limits limits = { .bytes_max = JSON_BYTES_MAX };
    yyjson_val *root;
    uint64_t elements;
    int r = json_parse(cli->arena, file, &limits, &root, err);
    if (r < 0)
        return r;
    if (yyjson_is_obj(root))
        return err_set(err, ERR_BAD_INPUT, "%s",
                       json_member(root, "inputs")
                           ? "it is a whole request; --input wants the data of one input, a list"
                           : "it is an object; a list of numbers is wanted, nested or flat");
    ret->tensor = (struct tensor_file){ .datatype = want->datatype };
    struct tensor_shape *shape = &ret->tensor.shape;
    for (yyjson_val *at = root; yyjson_is_arr(at); at = yyjson_arr_get_first(at)) {
        if (shape->rank == TENSOR_RANK_MAX)
            return err_set(err, ERR_BAD_INPUT, "lists nested more than %d deep", TENSOR_RANK_MAX);
        shape->dims[shape->rank++] = (int64_t)yyjson_arr_size(at);
    }
    struct tensor_shape nested = *shape;
    r = tensor_fit(&ret->tensor, want, err);
    if (r < 0)
        return r;
    ret->json = file;
    bool same =
        nested.rank == shape->rank && memcmp(nested.dims, shape->dims, sizeof nested.dims) == 0;
    if (nested.rank == 1 || (same && nested.rank))
        return 0;
    struct json_writer w;
    json_begin(&w, cli->arena, 0);
    json_array_begin(&w);
    uint64_t leaves = leaves_write(&w, root);
    json_array_end(&w);
    ret->json = json_end(&w);
    if (!tensor_elements(&nested, &elements) || elements != leaves)
        return err_set(err, ERR_BAD_INPUT, "the lists are not all of one length");
    return 0;
}

/* Whether a name says that it is no JSON. */
static bool other_ending(struct slice path)
{
    struct slice name = path;
    for (size_t i = path.size; i > 0 && name.size == path.size; i--)
        if (path.data[i - 1] == '/')
            name = (struct slice){ path.data + i, path.size - i };
    return memchr(name.data, '.', name.size) && !slice_ends(name, SLICE(".json"));
}

/* ---- files ----------------------------------------------------------------------------------- */

static int input_add(struct infer *infer, const char *text, struct err *err)
{
    struct cli *cli = infer->cli;
    struct slice path = slice_of(text), name = slice_cut(&path, '='), file;
    struct tensor_file want;
    if (!path.data || path.size == 0)
        return cli_usage(infer->cli, err_set(err, ERR_BAD_INPUT, "--input wants NAME=FILE"));
    if (!want_find(infer, name, &want))
        return err_set(err, ERR_BAD_INPUT, "the model has no input '%s'; it has: %s",
                       ERR_SLICE(name), input_names(infer));
    if (infer->input_count == INPUTS_MAX)
        return err_set(err, ERR_TOO_LARGE, "more than %d inputs", INPUTS_MAX);
    struct input *input = &infer->inputs[infer->input_count++];
    struct tensor_file *tensor = &input->tensor;
    input->name = name;
    bool standard = strcmp(path.data, "@-") == 0;
    int r = cli_read(cli, standard ? "-" : path.data, TENSOR_FILE_BYTES_MAX, &file, err);
    bool converted = true;
    if (r < 0)
        return r;
    if (slice_starts(file, SLICE("\x93NUMPY")))
        r = npy_read(cli->arena, file, tensor, err);
    else if (slice_starts(file, SLICE("PK\x03\x04"))) {
        r = npz_read(cli->arena, file, name, tensor, err);
        if (r == ERR_NOT_FOUND)
            r = npz_read(cli->arena, file, (struct slice){}, tensor, err);
    } else if (slice_starts(file, SLICE("\x89PNG")) || slice_starts(file, SLICE("\xff\xd8")))
        r = picture_read(infer, file, name, &want, tensor, err);
    else {
        r = json_shape(cli, file, &want, input, err);
        converted = false;
        if (r == ERR_BAD_INPUT && !standard && other_ending(path))
            r = err_set(err, ERR_BAD_INPUT,
                        "not a form that --input takes: .npy, .npz, .png, .jpg and .json");
    }
    if (r < 0 || !converted)
        return r;
    const char *before = tensor_words(cli->arena, tensor);
    r = tensor_convert(cli->arena, tensor, want.datatype, err);
    if (r == 0)
        r = tensor_fit(tensor, &want, err);
    const char *after = r == 0 ? tensor_words(cli->arena, tensor) : "";
    if (r == 0 && !cli->json && strcmp(before, after) != 0)
        fprintf(stderr, "%.*s: %s to %s\n", SLICE_FMT(name), before, after);
    return r;
}

int infer_inputs_read(struct infer *infer, struct err *err)
{
    for (size_t i = 0;; i++) {
        const char *text = cli_option_nth(infer->cli, "--input", i);
        if (!text)
            break;
        int r = input_add(infer, text, err);
        if (r < 0)
            return err_wrap(err, "%s", ERR_TEXT(text));
    }
    if (infer->input_count == 0)
        return cli_usage(infer->cli, err_set(err, ERR_BAD_INPUT,
                                             "--input NAME=FILE is missing; the model has: %s",
                                             input_names(infer)));
    return 0;
}
