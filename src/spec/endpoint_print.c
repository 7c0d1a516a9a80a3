/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "base/yaml.h"
#include "spec/endpoint.h"
#include "spec/option.h"

static void document_free(void *doc)
{
    yyjson_mut_doc_free(doc);
}

static yyjson_mut_doc *document_new(struct arena *arena)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);

    arena_defer(arena, document_free, doc);
    return doc;
}

static bool is_always(const struct option *option)
{
    return option->offset == offsetof(struct endpoint_spec, version) ||
           option->offset == offsetof(struct endpoint_spec, name);
}

/* "scale.min" goes into the object "scale", made when its first key comes. */
static void tree_add(yyjson_mut_doc *doc, yyjson_mut_val *root, const char *key,
                     yyjson_mut_val *value)
{
    const char *dot;

    while ((dot = strchr(key, '.'))) {
        size_t size = (size_t)(dot - key);
        yyjson_mut_val *group = yyjson_mut_obj_getn(root, key, size);
        if (!group) {
            group = yyjson_mut_obj(doc);
            yyjson_mut_obj_add(root, yyjson_mut_strncpy(doc, key, size), group);
        }
        root = group;
        key = dot + 1;
    }
    yyjson_mut_obj_add(root, yyjson_mut_str(doc, key), value);
}

/* What is an object in both goes on inside, at most as deep as the table's keys do. */
static void tree_merge(yyjson_mut_doc *doc, yyjson_mut_val *into, yyjson_mut_val *patch,
                       unsigned depth)
{
    yyjson_mut_val *key;
    yyjson_mut_obj_iter iter;

    yyjson_mut_obj_iter_init(patch, &iter);
    while ((key = yyjson_mut_obj_iter_next(&iter))) {
        yyjson_mut_val *value = yyjson_mut_obj_iter_get_val(key);
        yyjson_mut_val *group =
            yyjson_mut_obj_getn(into, yyjson_mut_get_str(key), yyjson_mut_get_len(key));
        if (group && yyjson_mut_is_obj(group) && yyjson_mut_is_obj(value) && depth > 0)
            tree_merge(doc, group, value, depth - 1);
        else
            yyjson_mut_obj_add(into, yyjson_mut_val_mut_copy(doc, key),
                               yyjson_mut_val_mut_copy(doc, value));
    }
}

/* What a PoP kept of a newer spec goes back to where it stood. */
static yyjson_mut_val *tree_with_unknown(yyjson_mut_doc *doc, yyjson_mut_val *root,
                                         struct slice unknown)
{
    yyjson_doc *kept = yyjson_read(unknown.data, unknown.size, 0);
    assert(kept); /* printed by us */
    yyjson_mut_val *patch = yyjson_val_mut_copy(doc, yyjson_doc_get_root(kept));

    yyjson_doc_free(kept);
    tree_merge(doc, root, patch, 3);
    return root;
}

yyjson_mut_val *endpoint_spec_tree(yyjson_mut_doc *doc, const struct endpoint_spec *spec,
                                   unsigned flags)
{
    yyjson_mut_val *root = yyjson_mut_obj(doc);

    for (size_t i = 0; i < endpoint_option_count; i++) {
        const struct option *option = &endpoint_options[i];
        if (option->status != OPTION_LIVE)
            continue;
        yyjson_mut_val *value = option_value(option, spec, doc);
        bool wanted =
            is_always(option) || flags & SPEC_WITH_DEFAULTS || !option_is_default(option, spec);
        if (wanted && !yyjson_mut_is_null(value))
            tree_add(doc, root, option->key, value);
    }
    return spec->unknown.size ? tree_with_unknown(doc, root, spec->unknown) : root;
}

struct slice endpoint_spec_json(struct arena *arena, const struct endpoint_spec *spec,
                                unsigned flags)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    struct slice text = json_print_mut(arena, endpoint_spec_tree(doc, spec, flags), 0);

    yyjson_mut_doc_free(doc);
    return text;
}

struct slice endpoint_spec_yaml(struct arena *arena, const struct endpoint_spec *spec,
                                unsigned flags)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_doc *flat = yyjson_mut_val_imut_copy(endpoint_spec_tree(doc, spec, flags), NULL);
    struct slice text = yaml_print(arena, yyjson_doc_get_root(flat));

    yyjson_doc_free(flat);
    yyjson_mut_doc_free(doc);
    return text;
}

struct slice endpoint_spec_what_runs(struct arena *arena, const struct endpoint_spec *spec)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);

    for (size_t i = 0; i < endpoint_option_count; i++) {
        const struct option *option = &endpoint_options[i];
        if (option->status != OPTION_LIVE || option->part != OPTION_WHAT_RUNS)
            continue;
        yyjson_mut_val *value = option_value(option, spec, doc);
        if (!yyjson_mut_is_null(value))
            tree_add(doc, root, option->key, value);
    }
    struct slice text = json_print_mut(arena, root, 0);
    yyjson_mut_doc_free(doc);
    return text;
}

/* --- comparing ------------------------------------------------------------------------------- */

static struct slice or_null(struct slice json)
{
    return json.size ? json : SLICE("null");
}

struct spec_changes endpoint_spec_diff(struct arena *arena, const struct endpoint_spec *before,
                                       const struct endpoint_spec *after)
{
    struct spec_change *items = ARENA_ARRAY(arena, struct spec_change, endpoint_option_count + 1);
    struct spec_changes changes = { .items = items };
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);

    for (size_t i = 0; i < endpoint_option_count; i++) {
        const struct option *option = &endpoint_options[i];
        if (option->status != OPTION_LIVE)
            continue;
        yyjson_mut_val *old_value = option_value(option, before, doc);
        yyjson_mut_val *new_value = option_value(option, after, doc);
        if (yyjson_mut_equals(old_value, new_value))
            continue;
        items[changes.count++] =
            (struct spec_change){ option->key, option->part, json_print_mut(arena, old_value, 0),
                                  json_print_mut(arena, new_value, 0) };
        changes.new_revision |= option->part == OPTION_WHAT_RUNS;
    }
    if (!slice_equal(before->unknown, after->unknown))
        items[changes.count++] =
            (struct spec_change){ "(keys not known here)", OPTION_GOVERNED,
                                  or_null(before->unknown), or_null(after->unknown) };
    yyjson_mut_doc_free(doc);
    return changes;
}

int endpoint_spec_patch(struct arena *arena, const struct endpoint_spec *spec, yyjson_val *patch,
                        struct endpoint_spec *ret_spec, struct err *err)
{
    if (!yyjson_is_obj(patch))
        return err_set(err, ERR_BAD_INPUT, "a patch must be an object, not %s", json_kind(patch));
    yyjson_mut_doc *doc = document_new(arena);
    yyjson_mut_val *changed = yyjson_mut_merge_patch(doc, endpoint_spec_tree(doc, spec, 0),
                                                     yyjson_val_mut_copy(doc, patch));
    yyjson_doc *flat = yyjson_mut_val_imut_copy(changed, NULL);
    assert(flat);
    unsigned flags = spec->unknown.size ? SPEC_KEEP_UNKNOWN : 0;
    if (spec->name.size == 0)
        flags |= SPEC_NAME_OPTIONAL;
    int r = endpoint_spec_parse(arena, yyjson_doc_get_root(flat), flags, ret_spec, err);
    yyjson_doc_free(flat);
    return r;
}
