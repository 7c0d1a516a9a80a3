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
static_assert(sizeof(struct endpoint) + sizeof(struct endpoint_side) + sizeof(struct revision) +
                      sizeof(struct revision_side) + sizeof(struct queue_head) <=
                  1024,
              "an endpoint at zero costs little, whatever is counted once it is asked");

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

static struct slice text_keep(struct arena *arena, const struct perigee_model *model,
                              struct perigee_string string)
{
    return arena_copy(arena, model_text(model, string));
}

static const struct slice *symbols_new(struct arena *arena, const struct perigee_model *model,
                                       const struct perigee_io *io)
{
    struct slice *symbols = NULL;

    for (uint32_t k = 0; k < io->rank; k++) {
        if (io->symbols[k].bytes == 0)
            continue;
        if (!symbols)
            symbols = ARENA_ARRAY(arena, struct slice, io->rank);
        symbols[k] = text_keep(arena, model, io->symbols[k]);
    }
    return symbols;
}

static struct tensor_meta *metas_new(struct arena *arena, const struct perigee_model *model,
                                     const struct perigee_io *ios, uint32_t count)
{
    struct tensor_meta *metas = ARENA_ARRAY(arena, struct tensor_meta, count);

    for (uint32_t i = 0; i < count; i++) {
        metas[i].name = text_keep(arena, model, ios[i].name);
        metas[i].type = (enum tensor_type)ios[i].datatype;
        metas[i].shape.rank = ios[i].rank;
        metas[i].optional = ios[i].flags & PERIGEE_IO_OPTIONAL;
        metas[i].symbols = symbols_new(arena, model, &ios[i]);
        for (uint32_t k = 0; k < ios[i].rank; k++)
            metas[i].shape.dims[k] = ios[i].dims[k];
    }
    return metas;
}

/* The model's property perigee.labels.OUTPUT: a JSON list of texts, the names of its elements. */
static int labels_read(struct arena *arena, struct arena *scratch, struct slice json,
                       struct tensor_meta *output, struct err *err)
{
    yyjson_val *list, *item;
    size_t index, count;
    int r = json_parse(scratch, json, NULL, &list, err);
    if (r < 0)
        return r;
    if (!yyjson_is_arr(list))
        return err_set(err, ERR_BAD_INPUT, "must be a list, not %s", json_kind(list));
    struct slice *labels = ARENA_ARRAY(arena, struct slice, yyjson_arr_size(list) + 1);
    char *at = arena_alloc(arena, json.size); /* no text is longer than it is written */
    yyjson_arr_foreach(list, index, count, item)
    {
        if (!yyjson_is_str(item))
            return err_set(err, ERR_BAD_INPUT, "element %zu must be a string, not %s", index,
                           json_kind(item));
        struct slice label = json_slice(item);
        memcpy(at, label.data, label.size);
        labels[index] = (struct slice){ at, label.size };
        at += label.size;
    }
    output->labels = labels;
    output->label_count = (uint32_t)count;
    return 0;
}

static const struct slice labels_prefix = { "perigee.labels.", 15 };

static bool names_labels(struct slice key)
{
    return key.size > labels_prefix.size &&
           memcmp(key.data, labels_prefix.data, labels_prefix.size) == 0;
}

static void labels_find(struct model_info *info, const struct perigee_model *model)
{
    for (uint32_t i = 0; i < model->property_count; i++) {
        struct slice key = model_text(model, model->properties[i].key);
        struct slice json = model_text(model, model->properties[i].value);
        if (!names_labels(key))
            continue;
        struct slice name = { key.data + labels_prefix.size, key.size - labels_prefix.size };
        for (uint32_t k = 0; k < info->output_count; k++) {
            struct err err;
            if (!slice_equal(name, info->outputs[k].name))
                continue;
            struct arena *scratch = arena_new();
            if (labels_read(info->arena, scratch, json, &info->outputs[k], &err) < 0)
                log_warn("gateway", "a model's names of classes cannot be read, ignoring",
                         LOG_SLICE("key", key), LOG_S("why", err.message));
            arena_free(scratch);
        }
    }
}

enum { PIECE = 16 }; /* what the arena rounds up by, and a text's NUL */

static size_t ios_bytes(const struct perigee_io *ios, uint32_t count)
{
    size_t bytes = count * sizeof(struct tensor_meta) + PIECE;

    for (uint32_t i = 0; i < count; i++) {
        bool named = false;
        bytes += ios[i].name.bytes + PIECE;
        for (uint32_t k = 0; k < ios[i].rank; k++) {
            named |= ios[i].symbols[k].bytes > 0;
            bytes += ios[i].symbols[k].bytes ? ios[i].symbols[k].bytes + PIECE : 0;
        }
        bytes += named ? ios[i].rank * sizeof(struct slice) : 0;
    }
    return bytes;
}

/* Of all that is kept, so that it is one piece: an endpoint at zero has it, too. */
static size_t info_bytes(const struct perigee_model *model)
{
    size_t bytes = sizeof(struct model_info) + model->platform.bytes + PIECE +
                   ios_bytes(model->inputs, model->input_count) +
                   ios_bytes(model->outputs, model->output_count);

    for (uint32_t i = 0; i < model->property_count; i++) {
        struct slice json = model_text(model, model->properties[i].value);
        if (!names_labels(model_text(model, model->properties[i].key)))
            continue;
        bytes += json.size + 2 * PIECE + 2 * sizeof(struct slice);
        for (size_t k = 0; k < json.size; k++)
            bytes += json.data[k] == ',' ? sizeof(struct slice) : 0;
    }
    return bytes;
}

struct model_info *model_info_new(const struct perigee_model *model)
{
    struct arena *arena = arena_new_for(info_bytes(model));
    struct model_info *info = ARENA_NEW(arena, struct model_info);

    info->arena = arena;
    info->input_count = model->input_count;
    info->output_count = model->output_count;
    info->batch_rows_max = model->batch_rows_max;
    info->inputs = metas_new(arena, model, model->inputs, model->input_count);
    info->outputs = metas_new(arena, model, model->outputs, model->output_count);
    info->platform = text_keep(arena, model, model->platform);
    labels_find(info, model);
    return info;
}

void model_info_free(struct model_info *info)
{
    if (info)
        arena_free(info->arena);
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
    if (!endpoint || !unref(&endpoint->refs))
        return;
    for (unsigned i = 0; i < endpoint->loops; i++)
        free(endpoint->sides[i].series);
    free(atomic_load(&endpoint->asked));
    free(endpoint);
}

struct revision *revision_new(struct gateway *gateway, uint64_t uid)
{
    size_t sides = sizeof(struct revision) + gateway->loops * sizeof(struct revision_side);
    size_t heads = (sides + 63) & ~(size_t)63;
    size_t bytes = heads + gateway->loops * sizeof(struct queue_head);
    struct revision *revision = aligned_alloc(64, bytes);

    if (!revision)
        mem_abort(bytes);
    memset(revision, 0, bytes);
    revision->uid = uid;
    revision->gateway = gateway;
    atomic_init(&revision->refs, 1);
    queue_init(&revision->queue, (struct queue_head *)(void *)((char *)revision + heads),
               gateway->loops);
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
