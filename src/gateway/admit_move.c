/* SPDX-License-Identifier: Apache-2.0 */
/* A request waits with its inputs in one revision's arena, and another revision comes to serve. */
#include <string.h>

#include "base/err.h"
#include "gateway/admit_own.h"
#include "gateway/request.h"

static bool metas_equal(const struct tensor_meta *a, const struct tensor_meta *b, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!slice_equal(a[i].name, b[i].name) || a[i].type != b[i].type ||
            a[i].optional != b[i].optional || a[i].shape.rank != b[i].shape.rank ||
            memcmp(a[i].shape.dims, b[i].shape.dims, a[i].shape.rank * sizeof *a[i].shape.dims) !=
                0)
            return false;
    return true;
}

static bool models_equal(const struct model_info *a, const struct model_info *b)
{
    return a->input_count == b->input_count && a->output_count == b->output_count &&
           metas_equal(a->inputs, b->inputs, a->input_count) &&
           metas_equal(a->outputs, b->outputs, a->output_count);
}

int admit_move(struct request *request, struct err *err)
{
    struct revision_side *from = request->block_side, *to = request->side;
    const struct model_info *old = atomic_load(&from->revision->model);
    const struct model_info *new = atomic_load(&to->revision->model);
    struct block *block;

    if (!new || !atomic_load(&to->revision->arena))
        return 1;
    if (!models_equal(old, new))
        return err_set(
            err, ERR_OVERLOADED,
            "the revision was replaced by one with other inputs; send the request again");
    body_blocks(request);
    request->shed = SHED_memory;
    int r = block_take(to->blocks, request->request_bytes, &block, err);
    if (r < 0)
        return r;
    request->shed = SHED_unready;
    memcpy(block_memory(to->blocks, block), block_memory(from->blocks, request->block),
           request->request_bytes);
    block_give(from->blocks, request->block);
    request->block = block;
    request->block_side = to;
    metric_add(shard_series(request->gl, request->table->head, request->row, request->endpoint,
                            GATEWAY_COPIED),
               request->request_bytes);
    return 0;
}
