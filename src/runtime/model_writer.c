/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/model_writer.h"

#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/slice.h"
#include "contract/ring.h"
#include "runtime/runtime.h"

struct model_writer {
    struct perigee_model *model; /* PERIGEE_MODEL_BYTES_MAX bytes */
    size_t used;
};

struct model_writer *model_writer_new(void)
{
    struct model_writer *writer = mem_zalloc(sizeof *writer);

    writer->model = mem_zalloc(PERIGEE_MODEL_BYTES_MAX);
    writer->used = sizeof *writer->model;
    return writer;
}

void model_writer_free(struct model_writer *writer)
{
    if (!writer)
        return;
    free(writer->model);
    free(writer);
}

static int add_string(struct model_writer *writer, const char *text, struct perigee_string *ret,
                      struct err *err)
{
    struct slice slice = slice_of(text);

    if (slice.size == 0)
        return 0;
    if (!utf8_valid(slice))
        return err_set(err, ERR_BAD_INPUT, "the model's text '%s' is not UTF-8", ERR_TEXT(text));
    if (slice.size > PERIGEE_MODEL_BYTES_MAX - writer->used)
        return err_set(err, ERR_BAD_INPUT, "the model's names and properties are too long");
    memcpy((char *)writer->model + writer->used, slice.data, slice.size);
    *ret = (struct perigee_string){ (uint32_t)writer->used, (uint32_t)slice.size };
    writer->used += slice.size;
    return 0;
}

int model_platform(struct model_writer *writer, const char *platform, struct err *err)
{
    return add_string(writer, platform, &writer->model->platform, err);
}

static int add_io(struct model_writer *writer, const struct model_io *io, struct perigee_io *ios,
                  uint32_t *count, const char *what, struct err *err)
{
    if (*count >= PERIGEE_TENSORS_MAX)
        return err_set(err, ERR_BAD_INPUT, "the model has more than %u %ss", PERIGEE_TENSORS_MAX,
                       what);
    if (io->rank > PERIGEE_RANK_MAX)
        return err_set(err, ERR_BAD_INPUT, "%s '%s' has more than %u dimensions", what,
                       ERR_TEXT(io->name), PERIGEE_RANK_MAX);
    struct perigee_io *to = &ios[*count];
    *to = (struct perigee_io){ .datatype = io->datatype, .rank = io->rank, .flags = io->flags };
    int r = add_string(writer, io->name, &to->name, err);
    for (uint32_t i = 0; r == 0 && i < io->rank; i++) {
        to->dims[i] = io->dims[i] < 0 ? -1 : io->dims[i];
        if (io->symbols[i])
            r = add_string(writer, io->symbols[i], &to->symbols[i], err);
    }
    *count += r == 0;
    return r;
}

int model_input(struct model_writer *writer, const struct model_io *io, struct err *err)
{
    return add_io(writer, io, writer->model->inputs, &writer->model->input_count, "input", err);
}

int model_output(struct model_writer *writer, const struct model_io *io, struct err *err)
{
    return add_io(writer, io, writer->model->outputs, &writer->model->output_count, "output", err);
}

int model_property(struct model_writer *writer, const char *key, const char *value, struct err *err)
{
    struct perigee_model *model = writer->model;
    struct perigee_property property = {};
    size_t used = writer->used;

    if (model->property_count >= PERIGEE_PROPERTIES_MAX)
        return err_set(err, ERR_BAD_INPUT, "more than %u properties", PERIGEE_PROPERTIES_MAX);
    int r = add_string(writer, key, &property.key, err);
    if (r == 0)
        r = add_string(writer, value, &property.value, err);
    if (r < 0)
        writer->used = used;
    else
        model->properties[model->property_count++] = property;
    return r;
}

void model_batch(struct model_writer *writer, uint32_t rows_max)
{
    writer->model->batch_rows_max = rows_max;
}

int model_writer_finish(struct model_writer *writer, const struct perigee_model **ret_model,
                        size_t *ret_bytes, struct err *err)
{
    int r = model_check(writer->model, writer->used, err);

    if (r < 0)
        return r;
    *ret_model = writer->model;
    *ret_bytes = writer->used;
    return 0;
}
