/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is shared and counted: endpoints, revisions, tables, descriptions of models. The last one to
 * let go frees, whichever thread that is; by then no loop has anything of it in a list.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "gateway/admit.h"
#include "gateway/core.h"
#include "gateway/target.h"
#include "proto/tensor.h"
#include "sys/shm.h"

static_assert(TENSOR_RANK_MAX == PERIGEE_RANK_MAX, "one number");
static_assert((int)TENSOR_BF16 == (int)PERIGEE_BF16, "one list of datatypes");

static bool unref(_Atomic uint32_t *refs)
{
    uint32_t before = atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel);

    assert(before > 0);
    return before == 1;
}

/* ---- models --------------------------------------------------------------------------- */

static struct slice model_text(const struct perigee_model *model, struct perigee_string string)
{
    return (struct slice){ (const char *)model + string.offset, string.bytes };
}

static struct tensor_meta *metas_new(const struct perigee_model *model,
                                     const struct perigee_io *ios, uint32_t count)
{
    struct tensor_meta *metas = mem_zalloc((count + 1) * sizeof *metas);

    for (uint32_t i = 0; i < count; i++) {
        metas[i].name = model_text(model, ios[i].name);
        metas[i].type = (enum tensor_type)ios[i].datatype;
        metas[i].shape.rank = ios[i].rank;
        metas[i].optional = ios[i].flags & PERIGEE_IO_OPTIONAL;
        for (uint32_t k = 0; k < ios[i].rank; k++) {
            metas[i].shape.dims[k] = ios[i].dims[k];
            metas[i].symbols[k] = model_text(model, ios[i].symbols[k]);
        }
    }
    return metas;
}

/* The model's property perigee.labels.OUTPUT: a JSON list of texts, the names of its elements. */
static int labels_read(struct model_info *info, struct slice json, struct tensor_meta *output,
                       struct err *err)
{
    yyjson_val *list, *item;
    size_t index, count;
    if (!info->arena)
        info->arena = arena_new();
    int r = json_parse(info->arena, json, NULL, &list, err);
    if (r < 0)
        return r;
    if (!yyjson_is_arr(list))
        return err_set(err, ERR_BAD_INPUT, "must be a list, not %s", json_kind(list));
    struct slice *labels = ARENA_ARRAY(info->arena, struct slice, yyjson_arr_size(list) + 1);
    yyjson_arr_foreach(list, index, count, item)
    {
        if (!yyjson_is_str(item))
            return err_set(err, ERR_BAD_INPUT, "element %zu must be a string, not %s", index,
                           json_kind(item));
        labels[index] = json_slice(item);
    }
    output->labels = labels;
    output->label_count = (uint32_t)count;
    return 0;
}

static void labels_find(struct model_info *info)
{
    const struct slice prefix = SLICE("perigee.labels.");
    for (uint32_t i = 0; i < info->model->property_count; i++) {
        struct slice key = model_text(info->model, info->model->properties[i].key);
        struct slice json = model_text(info->model, info->model->properties[i].value);
        if (key.size <= prefix.size || memcmp(key.data, prefix.data, prefix.size) != 0)
            continue;
        struct slice name = { key.data + prefix.size, key.size - prefix.size };
        for (uint32_t k = 0; k < info->model->output_count; k++) {
            struct err err;
            if (slice_equal(name, info->outputs[k].name) &&
                labels_read(info, json, &info->outputs[k], &err) < 0)
                log_warn("gateway", "a model's names of classes cannot be read, ignoring",
                         LOG_SLICE("key", key), LOG_S("why", err.message));
        }
    }
}

struct model_info *model_info_new(const struct perigee_model *model, size_t bytes)
{
    struct model_info *info = mem_zalloc(sizeof *info);

    info->model = mem_alloc(bytes);
    memcpy(info->model, model, bytes);
    info->inputs = metas_new(info->model, info->model->inputs, info->model->input_count);
    info->outputs = metas_new(info->model, info->model->outputs, info->model->output_count);
    info->platform = model_text(info->model, info->model->platform);
    labels_find(info);
    return info;
}

void model_info_free(struct model_info *info)
{
    if (!info)
        return;
    free(info->inputs);
    free(info->outputs);
    arena_free(info->arena);
    free(info->model);
    free(info);
}

/* ---- endpoints and revisions ---------------------------------------------------------- */

struct endpoint *endpoint_new(struct gateway *gateway, uint64_t uid)
{
    struct endpoint *endpoint =
        mem_zalloc(sizeof *endpoint + gateway->loops * sizeof *endpoint->sides);

    endpoint->uid = uid;
    endpoint->loops = gateway->loops;
    atomic_init(&endpoint->refs, 1);
    endpoint->memory.share_percent = gateway_endpoint_share_percent;
    endpoint->memory.parent = &gateway->memory;
    for (unsigned i = 0; i < gateway->loops; i++) {
        list_init(&endpoint->sides[i].batch);
        atomic_init(&endpoint->sides[i].batch_newest_ns, INT64_MIN);
    }
    return endpoint;
}

struct endpoint *endpoint_ref(struct endpoint *endpoint)
{
    atomic_fetch_add_explicit(&endpoint->refs, 1, memory_order_relaxed);
    return endpoint;
}

void endpoint_unref(struct endpoint *endpoint)
{
    if (endpoint && unref(&endpoint->refs))
        free(endpoint);
}

struct revision *revision_new(struct gateway *gateway, uint64_t uid)
{
    size_t bytes = sizeof(struct revision) + gateway->loops * sizeof(struct revision_side);
    struct revision *revision = aligned_alloc(64, (bytes + 63) & ~(size_t)63);

    if (!revision)
        mem_abort(bytes);
    memset(revision, 0, bytes);
    revision->uid = uid;
    revision->gateway = gateway;
    atomic_init(&revision->refs, 1);
    queue_init(&revision->queue, gateway->loops);
    for (unsigned i = 0; i < gateway->loops; i++) {
        struct revision_side *side = &revision->sides[i];
        side->revision = revision;
        side->loop = &gateway->loop[i];
        list_init(&side->lanes);
        list_init(&side->targets);
        list_init(&side->held);
        list_init(&side->uploads);
        queue_side_init(&side->queue, &revision->queue, i, &admit_queue_events, side);
    }
    return revision;
}

struct revision *revision_ref(struct revision *revision)
{
    atomic_fetch_add_explicit(&revision->refs, 1, memory_order_relaxed);
    return revision;
}

void revision_unref(struct revision *revision)
{
    if (!revision || !unref(&revision->refs))
        return;
    for (unsigned i = 0; i < revision->gateway->loops; i++) {
        struct revision_side *side = &revision->sides[i];
        assert(side->queue.count == 0);
        blocks_free(side->blocks);
        endpoint_unref(side->endpoint);
    }
    model_info_free(atomic_load(&revision->model));
    shm_unmap(atomic_load(&revision->arena), revision->arena_bytes);
    free(revision);
}

/* ---- tables --------------------------------------------------------------------------- */

struct table *table_ref(struct table *table)
{
    atomic_fetch_add_explicit(&table->refs, 1, memory_order_relaxed);
    return table;
}

void table_unref(struct table *table)
{
    if (!table || !unref(&table->refs))
        return;
    for (uint32_t i = 0; i < table->head->endpoints.count; i++)
        endpoint_unref(table->endpoints[i]);
    for (uint32_t i = 0; i < table->head->revisions.count; i++)
        revision_unref(table->revisions[i]);
    for (uint32_t i = 0; table->head->version > 4 && i < table->head->targets.count; i++)
        target_unref(table->targets[i]);
    free(table->endpoints);
    free(table->revisions);
    free(table->targets);
    if (table->mapped)
        shm_unmap((void *)(uintptr_t)table->head, table->bytes);
    else
        free((void *)(uintptr_t)table->head);
    free(table);
}
