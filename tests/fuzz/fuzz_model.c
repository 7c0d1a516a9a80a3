/* SPDX-License-Identifier: Apache-2.0 */
/* An output region as a hostile replica may leave it: its metadata is copied and checked, and what
 * passed is then walked as the gateway walks it. */
#include "contract/ring.h"

#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned walk(const struct perigee_model *model, struct perigee_string string)
{
    const unsigned char *text = (const unsigned char *)model + string.offset;
    unsigned sum = 0;

    for (uint32_t i = 0; i < string.bytes; i++)
        sum += text[i];
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    [[maybe_unused]] static volatile unsigned sum;
    size_t region_bytes = region_output_bytes(1, 4096), bytes = 0;
    auto_free char *region = mem_zalloc(region_bytes);
    auto_free struct perigee_model *model = mem_alloc(PERIGEE_MODEL_BYTES_MAX);
    struct perigee_status *status = (struct perigee_status *)region;
    struct err err = {};

    if (size > PERIGEE_MODEL_BYTES_MAX)
        size = PERIGEE_MODEL_BYTES_MAX;
    if (size > 0)
        memcpy(region + PERIGEE_MODEL_OFFSET, data, size);
    status->model_bytes = (uint32_t)size;
    if (model_copy(region, region_bytes, model, PERIGEE_MODEL_BYTES_MAX, &bytes, &err) < 0)
        return 0;
    sum += walk(model, model->platform);
    for (uint32_t i = 0; i < model->input_count; i++) {
        sum += walk(model, model->inputs[i].name);
        for (uint32_t d = 0; d < model->inputs[i].rank; d++)
            sum += walk(model, model->inputs[i].symbols[d]);
    }
    for (uint32_t i = 0; i < model->output_count; i++)
        sum += walk(model, model->outputs[i].name) +
               (unsigned)datatype_bytes(model->outputs[i].datatype);
    for (uint32_t i = 0; i < model->property_count; i++)
        sum += walk(model, model->properties[i].key) + walk(model, model->properties[i].value);
    return 0;
}
