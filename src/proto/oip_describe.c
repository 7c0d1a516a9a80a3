/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/oip.h"

#include "proto/number.h"

/* Only what is true; the names are Triton's. */
static const char *const extensions[] = {
    "classification",      "model_repository", "model_repository(unload_dependents)",
    "model_configuration", "statistics",       "binary_tensor_data",
    "parameters",
};

bool oip_model_batched(const struct oip_model *model)
{
    for (uint32_t i = 0; i < model->input_count; i++)
        if (model->inputs[i].shape.rank == 0 || model->inputs[i].shape.dims[0] >= 0)
            return false;
    for (uint32_t i = 0; i < model->output_count; i++)
        if (model->outputs[i].shape.rank == 0 || model->outputs[i].shape.dims[0] >= 0)
            return false;
    return model->input_count > 0 && model->output_count > 0;
}

static void field_number_text(struct text *text, const char *key, uint64_t value)
{
    char number[NUMBER_OUT_MAX];

    text_json_field(text, key, (struct slice){ number, number_write_u64(number, value) });
}

static void field_dims(struct text *text, const char *key, const struct tensor_shape *shape,
                       uint32_t first)
{
    text_json_key(text, key);
    text_char(text, '[');
    for (uint32_t i = first; i < shape->rank; i++) {
        text_json_comma(text);
        text_i64(text, shape->dims[i]);
    }
    text_char(text, ']');
}

void oip_write_live(struct text *text, bool live)
{
    text_char(text, '{');
    text_json_field_bool(text, "live", live);
    text_char(text, '}');
}

void oip_write_ready(struct text *text, bool ready)
{
    text_char(text, '{');
    text_json_field_bool(text, "ready", ready);
    text_char(text, '}');
}

void oip_write_server(struct text *text, struct slice version)
{
    text_char(text, '{');
    text_json_field(text, "name", SLICE("perigee"));
    text_json_field(text, "version", version);
    text_json_key(text, "extensions");
    text_char(text, '[');
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++) {
        text_json_comma(text);
        text_json_string(text, slice_of(extensions[i]));
    }
    TEXT_LITERAL(text, "]}");
}

void oip_write_model_ready(struct text *text, struct slice name, bool ready)
{
    text_char(text, '{');
    text_json_field(text, "name", name);
    text_json_field_bool(text, "ready", ready);
    text_char(text, '}');
}

static void write_tensors(struct text *text, const char *key, const struct tensor_meta *metas,
                          uint32_t count)
{
    text_json_key(text, key);
    text_char(text, '[');
    for (uint32_t i = 0; i < count; i++) {
        text_json_comma(text);
        text_char(text, '{');
        text_json_field(text, "name", metas[i].name);
        text_json_field(text, "datatype", slice_of(tensor_type_name(metas[i].type)));
        field_dims(text, "shape", &metas[i].shape, 0);
        text_char(text, '}');
    }
    text_char(text, ']');
}

void oip_write_model(struct text *text, const struct oip_model *model)
{
    text_char(text, '{');
    text_json_field(text, "name", model->name);
    text_json_key(text, "versions");
    text_char(text, '[');
    for (uint32_t i = 0; i < model->version_count; i++) {
        char number[NUMBER_OUT_MAX];

        text_json_comma(text);
        text_json_string(text,
                         (struct slice){ number, number_write_u64(number, model->versions[i]) });
    }
    text_char(text, ']');
    text_json_field(text, "platform", model->platform);
    write_tensors(text, "inputs", model->inputs, model->input_count);
    write_tensors(text, "outputs", model->outputs, model->output_count);
    text_char(text, '}');
}

/* ---- Triton's ModelConfig, as its JSON has it ------------------------------------------------ */

static void config_inputs(struct text *text, const struct oip_model *model, uint32_t first)
{
    text_json_key(text, "input");
    text_char(text, '[');
    for (uint32_t i = 0; i < model->input_count; i++) {
        const struct tensor_meta *meta = &model->inputs[i];

        text_json_comma(text);
        text_char(text, '{');
        text_json_field(text, "name", meta->name);
        text_json_field(text, "data_type", slice_of(tensor_config_name(meta->type)));
        text_json_field(text, "format", SLICE("FORMAT_NONE"));
        field_dims(text, "dims", &meta->shape, first);
        text_json_field_bool(text, "is_shape_tensor", false);
        text_json_field_bool(text, "allow_ragged_batch", false);
        text_json_field_bool(text, "optional", meta->optional);
        text_char(text, '}');
    }
    text_char(text, ']');
}

static void config_outputs(struct text *text, const struct oip_model *model, uint32_t first)
{
    text_json_key(text, "output");
    text_char(text, '[');
    for (uint32_t i = 0; i < model->output_count; i++) {
        const struct tensor_meta *meta = &model->outputs[i];

        text_json_comma(text);
        text_char(text, '{');
        text_json_field(text, "name", meta->name);
        text_json_field(text, "data_type", slice_of(tensor_config_name(meta->type)));
        field_dims(text, "dims", &meta->shape, first);
        text_json_field(text, "label_filename", SLICE(""));
        text_json_field_bool(text, "is_shape_tensor", false);
        text_char(text, '}');
    }
    text_char(text, ']');
}

/* With a max_batch_size the dims leave the batch's dimension out, as Triton's do. */
void oip_write_config(struct text *text, const struct oip_model *model)
{
    bool batched = model->batch_max > 0 && oip_model_batched(model);

    text_char(text, '{');
    text_json_field(text, "name", model->name);
    text_json_field(text, "platform", model->platform);
    text_json_field(text, "backend", model->backend);
    text_json_key(text, "version_policy");
    TEXT_LITERAL(text, "{\"all\":{}}");
    text_json_field_u64(text, "max_batch_size", batched ? model->batch_max : 0);
    config_inputs(text, model, batched);
    config_outputs(text, model, batched);
    text_json_key(text, "batch_input");
    TEXT_LITERAL(text, "[]");
    text_json_key(text, "batch_output");
    TEXT_LITERAL(text, "[]");
    text_json_key(text, "instance_group");
    TEXT_LITERAL(text, "[]");
    if (batched && model->batch_max > 1) {
        text_json_key(text, "dynamic_batching");
        TEXT_LITERAL(text, "{}");
    }
    text_json_key(text, "parameters");
    TEXT_LITERAL(text, "{}}");
}

/* ---- statistics, index, errors --------------------------------------------------------------- */

static void field_times(struct text *text, const char *key, struct oip_times times)
{
    text_json_key(text, key);
    text_char(text, '{');
    text_json_field_u64(text, "count", times.count);
    text_json_field_u64(text, "ns", times.ns);
    text_char(text, '}');
}

static void write_batches(struct text *text, const struct oip_stats *stats)
{
    text_json_key(text, "batch_stats");
    text_char(text, '[');
    for (uint32_t i = 0; i < stats->batch_count; i++) {
        const struct oip_batch_stats *batch = &stats->batches[i];

        text_json_comma(text);
        text_char(text, '{');
        text_json_field_u64(text, "batch_size", batch->batch_size);
        field_times(text, "compute_input", batch->compute_input);
        field_times(text, "compute_infer", batch->compute_infer);
        field_times(text, "compute_output", batch->compute_output);
        text_char(text, '}');
    }
    text_char(text, ']');
}

void oip_write_stats(struct text *text, const struct oip_stats *stats, size_t count)
{
    TEXT_LITERAL(text, "{\"model_stats\":[");
    for (size_t i = 0; i < count; i++) {
        const struct oip_stats *of = &stats[i];

        text_json_comma(text);
        text_char(text, '{');
        text_json_field(text, "name", of->name);
        field_number_text(text, "version", of->version);
        text_json_field_u64(text, "last_inference", of->last_inference_ms);
        text_json_field_u64(text, "inference_count", of->inference_count);
        text_json_field_u64(text, "execution_count", of->execution_count);
        text_json_key(text, "inference_stats");
        text_char(text, '{');
        field_times(text, "success", of->success);
        field_times(text, "fail", of->fail);
        field_times(text, "queue", of->queue);
        field_times(text, "compute_input", of->compute_input);
        field_times(text, "compute_infer", of->compute_infer);
        field_times(text, "compute_output", of->compute_output);
        field_times(text, "cache_hit", (struct oip_times){});
        field_times(text, "cache_miss", (struct oip_times){});
        TEXT_LITERAL(text, "},\"response_stats\":{}");
        write_batches(text, of);
        TEXT_LITERAL(text, ",\"memory_usage\":[]}");
    }
    TEXT_LITERAL(text, "]}");
}

void oip_write_index(struct text *text, const struct oip_index_row *rows, size_t count)
{
    static const char *const states[] = { "UNKNOWN", "READY", "UNAVAILABLE", "LOADING",
                                          "UNLOADING" };

    text_char(text, '[');
    for (size_t i = 0; i < count; i++) {
        text_json_comma(text);
        text_char(text, '{');
        text_json_field(text, "name", rows[i].name);
        if (rows[i].version > 0)
            field_number_text(text, "version", rows[i].version);
        text_json_field(text, "state", slice_of(states[rows[i].state]));
        text_json_field(text, "reason", rows[i].reason);
        text_char(text, '}');
    }
    text_char(text, ']');
}

void oip_write_error(struct text *text, struct slice message)
{
    text_char(text, '{');
    text_json_field(text, "error", message);
    text_char(text, '}');
}
