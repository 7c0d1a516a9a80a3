/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/infer_answer.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/view.h"

enum { SHOWN_ROWS = 10, SHOWN_BARS = 20, BAR_COLUMNS = 40, MORE_COLUMNS = 20 };

/* ---- reading --------------------------------------------------------------------------------- */

static int shape_read(yyjson_val *list, struct tensor_shape *ret)
{
    size_t index, count;
    yyjson_val *dim;
    if (!yyjson_is_arr(list) || yyjson_arr_size(list) > TENSOR_RANK_MAX)
        return -1;
    yyjson_arr_foreach(list, index, count, dim)
    {
        if (!yyjson_is_int(dim))
            return -1;
        ret->dims[ret->rank++] = yyjson_get_sint(dim);
    }
    return 0;
}

/* The first `size` of `rest`, as what shape and datatype say. */
static int binary_read(struct infer_output *output, uint64_t size, struct slice *rest,
                       struct err *err)
{
    struct tensor_file *tensor = &output->tensor;
    uint64_t elements, bytes;
    tensor->datatype = tensor_type_of(output->datatype);
    if (tensor->datatype == TENSOR_NONE)
        return err_set(err, ERR_NOT_SUPPORTED, "datatype '%s' is not known",
                       ERR_SLICE(output->datatype));
    if (size > rest->size)
        return err_set(err, ERR_INTERNAL, "it is cut");
    tensor->data = (struct slice){ rest->data, (size_t)size };
    *rest = (struct slice){ rest->data + size, rest->size - (size_t)size };
    if (!tensor_elements(&tensor->shape, &elements))
        return err_set(err, ERR_INTERNAL, "its shape cannot be");
    output->count = elements;
    if (tensor->datatype == TENSOR_BYTES)
        return tensor_strings_check(tensor->data.data, size, elements, err);
    if (!tensor_bytes(tensor->datatype, &tensor->shape, &bytes) || bytes != size)
        return err_set(err, ERR_INTERNAL, "it has other bytes than its shape");
    return 0;
}

static int output_read(yyjson_val *item, struct infer_output *ret, struct slice *rest,
                       struct err *err)
{
    yyjson_val *size = json_member(json_member(item, "parameters"), "binary_data_size");
    const struct tensor_shape *shape = &ret->tensor.shape;
    *ret = (struct infer_output){
        .name = view_text(item, "name"),
        .datatype = view_text(item, "datatype"),
        .data = json_member(item, "data"),
    };
    if (shape_read(json_member(item, "shape"), &ret->tensor.shape) < 0)
        return err_set(err, ERR_INTERNAL, "it has no shape");
    int r = 0;
    if (yyjson_is_uint(size))
        r = binary_read(ret, yyjson_get_uint(size), rest, err);
    else
        ret->count = yyjson_arr_size(ret->data);
    uint64_t columns = shape->rank > 1 ? (uint64_t)shape->dims[shape->rank - 1] : ret->count;
    ret->columns = columns == 0 || ret->count % columns ? ret->count : columns;
    return r;
}

int infer_answer_read(struct arena *arena, yyjson_val *json, struct slice binary,
                      struct infer_output **ret, size_t *ret_count, struct err *err)
{
    yyjson_val *list = json_member(json, "outputs"), *item;
    size_t index, count;
    *ret = ARENA_ARRAY(arena, struct infer_output, yyjson_arr_size(list) + 1);
    *ret_count = yyjson_arr_size(list);
    yyjson_arr_foreach(list, index, count, item)
    {
        int r = output_read(item, &(*ret)[index], &binary, err);
        if (r < 0)
            return err_wrap(err, "the gateway's answer cannot be read: output '%s'",
                            ERR_SLICE((*ret)[index].name));
    }
    if (binary.size)
        return err_set(err, ERR_INTERNAL,
                       "the gateway's answer cannot be read: %zu bytes belong to no output",
                       binary.size);
    return 0;
}

/* ---- elements -------------------------------------------------------------------------------- */

static uint32_t string_length(const struct infer_output *output)
{
    uint32_t length;
    memcpy(&length, output->tensor.data.data + output->text_at, sizeof length);
    return length;
}

/* Asked in order, mostly. */
static struct slice string_at(struct infer_output *output, uint64_t index)
{
    if (index < output->text_index)
        output->text_index = output->text_at = 0;
    for (; output->text_index < index; output->text_index++)
        output->text_at += sizeof(uint32_t) + string_length(output);
    return (struct slice){ output->tensor.data.data + output->text_at + sizeof(uint32_t),
                           string_length(output) };
}

static struct slice element_text(struct cli *cli, struct infer_output *output, uint64_t index)
{
    const struct tensor_file *tensor = &output->tensor;
    if (tensor->datatype == TENSOR_BYTES)
        return string_at(output, index);
    if (tensor->datatype != TENSOR_NONE)
        return slice_of(tensor_element_text(cli->arena, tensor, index));
    yyjson_val *item = yyjson_arr_get(output->data, index);
    if (yyjson_is_real(item))
        return slice_of(arena_format(cli->arena, "%.4g", yyjson_get_real(item)));
    return yyjson_is_str(item) ? json_slice(item) : json_print(cli->arena, item, 0);
}

/* false: it is none. */
static bool element_number(const struct infer_output *output, uint64_t index, double *ret)
{
    enum tensor_type datatype = output->tensor.datatype;
    if (datatype == TENSOR_BYTES || datatype == TENSOR_BOOL)
        return false;
    if (datatype != TENSOR_NONE) {
        *ret = tensor_element(&output->tensor, index);
        return true;
    }
    yyjson_val *item = yyjson_arr_get(output->data, index);
    *ret = yyjson_get_num(item);
    return yyjson_is_num(item);
}

/* ---- showing --------------------------------------------------------------------------------- */

/* One row of shares that make a whole: bars, the highest marked. */
static bool is_shares(const struct infer_output *output)
{
    double share, sum = 0;
    if (output->count < 2 || output->count > SHOWN_BARS)
        return false;
    for (uint64_t i = 0; i < output->count; i++) {
        if (!element_number(output, i, &share) || !(share >= 0))
            return false;
        sum += share;
    }
    return fabs(sum - 1) < 1e-3;
}

static void bars_print(struct cli *cli, const struct infer_output *output)
{
    double shares[SHOWN_BARS];
    size_t count = (size_t)output->count, best = 0;
    for (size_t i = 0; i < count; i++) {
        (void)element_number(output, i, &shares[i]);
        if (shares[i] > shares[best])
            best = i;
    }
    for (size_t i = 0; i < count; i++) {
        int filled = (int)lround(shares[i] * BAR_COLUMNS);
        printf("  %s%3zu ", i == best ? cli_color(cli, CLI_BOLD) : "", i);
        for (int k = 0; k < filled; k++)
            fputs("█", stdout);
        printf("%*s %6.2f %%%s\n", BAR_COLUMNS - filled, "", shares[i] * 100,
               i == best ? cli_color(cli, CLI_PLAIN) : "");
    }
}

/* One line: as many as fit, then how many there are more. False when some were left out. */
static bool values_print(struct cli *cli, struct infer_output *output, uint64_t first)
{
    size_t room = (size_t)cli->columns > MORE_COLUMNS ? (size_t)cli->columns - MORE_COLUMNS : 0;
    size_t used = 0, index = 0;
    printf("  ");
    for (; index < output->columns; index++) {
        struct slice text = element_text(cli, output, first + index);
        used += text.size + 2;
        if (index && used > room)
            break;
        printf("%s", index ? ", " : "");
        cli_print_text(stdout, text);
    }
    if (index < output->columns)
        printf(" ... (%zu more)", output->columns - index);
    putchar('\n');
    return index == output->columns;
}

/* A row of the last dimension is a line; a tensor of one dimension is one row. */
static void rows_print(struct cli *cli, struct infer_output *output)
{
    uint64_t rows = output->columns ? output->count / output->columns : 1;
    bool whole = rows <= SHOWN_ROWS;
    for (uint64_t row = 0; row < rows && row < SHOWN_ROWS; row++)
        whole &= values_print(cli, output, row * output->columns);
    if (rows > SHOWN_ROWS)
        printf("  ... %llu more rows\n", (unsigned long long)(rows - SHOWN_ROWS));
    if (!whole)
        printf("  (--json has all, and all digits; --save FILE.npz keeps all)\n");
}

void infer_answer_print(struct cli *cli, struct infer_output *outputs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct infer_output *output = &outputs[i];
        const struct tensor_shape *shape = &output->tensor.shape;
        fputs(cli_color(cli, CLI_BOLD), stdout);
        cli_print_text(stdout, output->name);
        printf("%s %s", cli_color(cli, CLI_PLAIN), cli_color(cli, CLI_DIM));
        cli_print_text(stdout, output->datatype);
        printf(" %s%s\n", TENSOR_SHAPE(shape), cli_color(cli, CLI_PLAIN));
        if (is_shares(output))
            bars_print(cli, output);
        else
            rows_print(cli, output);
    }
}

/* ---- keeping --------------------------------------------------------------------------------- */

int infer_answer_save(struct cli *cli, const char *path, const struct infer_output *outputs,
                      size_t count, struct err *err)
{
    struct npz *npz = NULL;
    int r = 0;
    for (size_t i = 0; i < count && r == 0; i++)
        if (outputs[i].tensor.datatype == TENSOR_NONE)
            r = err_set(err, ERR_NOT_SUPPORTED, "that gateway does not answer in binary");
    if (r == 0)
        r = npz_begin(cli->arena, path, &npz, err);
    for (size_t i = 0; i < count && r == 0; i++)
        r = npz_add(npz, outputs[i].name, &outputs[i].tensor, err);
    if (npz)
        r = npz_end(npz, r, err);
    if (r < 0)
        return err_wrap(err, "--save");
    if (!cli->json)
        fprintf(stderr, "%zu output%s kept in %s\n", count, count == 1 ? "" : "s", ERR_TEXT(path));
    return 0;
}
