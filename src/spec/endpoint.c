/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/endpoint.h"

#include <assert.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "base/yaml.h"
#include "spec/container.h"
#include "spec/option.h"
#include "spec/reference.h"

enum { KEY_BYTES = 160, KEYS_MAX = 96 };

struct reader {
    struct arena *arena;
    unsigned flags;
    struct endpoint_spec *spec;
    yyjson_val *where;    /* what the error is about */
    yyjson_mut_doc *kept; /* SPEC_KEEP_UNKNOWN: made when the first one comes */
    struct err *err;
};

static void document_free(void *doc)
{
    yyjson_mut_doc_free(doc);
}

/* --- finding rows ---------------------------------------------------------------------------- */

static const struct option *option_find(const char *key)
{
    for (size_t i = 0; i < endpoint_option_count; i++)
        if (strcmp(endpoint_options[i].key, key) == 0)
            return &endpoint_options[i];
    return NULL;
}

static bool is_version(const struct option *option)
{
    return option->status == OPTION_LIVE &&
           option->offset == offsetof(struct endpoint_spec, version);
}

/* Whether rows begin with "key.". */
static bool is_group(const char *key)
{
    size_t size = strlen(key);

    for (size_t i = 0; i < endpoint_option_count; i++)
        if (strncmp(endpoint_options[i].key, key, size) == 0 &&
            endpoint_options[i].key[size] == '.')
            return true;
    return false;
}

/* The words that may stand in the group ("" is the top), each once, NULL at the end. */
static void words_of(struct arena *arena, const char *group, const char *words[static KEYS_MAX])
{
    size_t skip = strlen(group), count = 0;

    for (size_t i = 0; i < endpoint_option_count; i++) {
        const char *key = endpoint_options[i].key;
        if (strncmp(key, group, skip) != 0 || (skip && key[skip] != '.'))
            continue;
        struct slice rest = slice_of(key + skip + (skip ? 1 : 0));
        const char *word = arena_string(arena, slice_cut(&rest, '.'));
        if (count && strcmp(words[count - 1], word) == 0)
            continue;
        assert(count < KEYS_MAX - 1);
        words[count++] = word;
    }
    words[count] = NULL;
}

static unsigned depth_of(const char *key)
{
    unsigned depth = 0;
    for (; *key; key++)
        depth += *key == '.';
    return depth;
}

/* The one row elsewhere whose last word is this one; of several the one that is least deep. */
static const char *key_elsewhere(struct slice word)
{
    const char *found = NULL;
    bool several = false;

    for (size_t i = 0; i < endpoint_option_count; i++) {
        const char *key = endpoint_options[i].key;
        const char *dot = strrchr(key, '.');
        if (!slice_is(word, dot ? dot + 1 : key) || (found && depth_of(key) > depth_of(found)))
            continue;
        several = found && depth_of(key) == depth_of(found);
        found = key;
    }
    return several ? NULL : found;
}

/* ---- what is refused ------------------------------------------------------------------------- */

static int unknown_key(struct reader *reader, const char *group, struct slice word)
{
    const char *dot = *group ? "." : "";
    const char *words[KEYS_MAX];
    const char *elsewhere = key_elsewhere(word);

    words_of(reader->arena, group, words);
    const char *nearest = json_nearest(word, words);
    if (nearest && !elsewhere)
        return err_set(reader->err, ERR_BAD_INPUT, "unknown key '%s%s%s'; did you mean '%s%s%s'?",
                       group, dot, ERR_SLICE(word), group, dot, nearest);
    if (elsewhere)
        return err_set(reader->err, ERR_BAD_INPUT, "unknown key '%s%s%s'; did you mean '%s'?",
                       group, dot, ERR_SLICE(word), elsewhere);
    return err_set(reader->err, ERR_BAD_INPUT, "unknown key '%s%s%s'", group, dot, ERR_SLICE(word));
}

static int not_yet(struct reader *reader, const struct option *option)
{
    const char *more =
        strcmp(option->key, "flavor") == 0 ? " as a name; give flavor.cpu and flavor.memory" : "";
    return err_set(reader->err, ERR_NOT_SUPPORTED, "'%s' is not acted upon yet%s%s", option->key,
                   option->status == OPTION_RESERVED ? " (reserved for later)" : "", more);
}

static yyjson_mut_val *kept_group(struct reader *reader, const char *group)
{
    yyjson_mut_val *at = yyjson_mut_doc_get_root(reader->kept);
    struct slice rest = slice_of(group);
    while (rest.size) {
        struct slice word = slice_cut(&rest, '.');
        yyjson_mut_val *inner = yyjson_mut_obj_getn(at, word.data, word.size);
        if (!inner) {
            inner = yyjson_mut_obj(reader->kept);
            yyjson_mut_obj_add(at, yyjson_mut_strncpy(reader->kept, word.data, word.size), inner);
        }
        at = inner;
    }
    return at;
}

static int keep(struct reader *reader, const char *group, yyjson_val *key, yyjson_val *value)
{
    if (!reader->kept) {
        reader->kept = yyjson_mut_doc_new(NULL);
        arena_defer(reader->arena, document_free, reader->kept);
        yyjson_mut_doc_set_root(reader->kept, yyjson_mut_obj(reader->kept));
    }
    yyjson_mut_obj_add(kept_group(reader, group), yyjson_val_mut_copy(reader->kept, key),
                       yyjson_val_mut_copy(reader->kept, value));
    return 0;
}

/* --- what stands across keys ----------------------------------------------------------------- */

bool spec_is_digest(struct slice text)
{
    if (text.size != 7 + 64 || !slice_starts(text, SLICE("sha256:")))
        return false;
    for (size_t i = 7; i < text.size; i++)
        if (!((text.data[i] >= '0' && text.data[i] <= '9') ||
              (text.data[i] >= 'a' && text.data[i] <= 'f')))
            return false;
    return true;
}

static int check_model(struct slice model, struct err *err)
{
    static const char *const later[] = { "hf://", "s3://", "https://", "http://", NULL };

    for (const char *const *scheme = later; *scheme; scheme++)
        if (slice_starts(model, slice_of(*scheme)))
            return err_set(err, ERR_NOT_SUPPORTED,
                           "model: '%s' is not acted upon yet; give a file, a folder, "
                           "oci://PROJECT/NAME:TAG of the registry, or sha256:HEX",
                           *scheme);
    if (slice_starts(model, SLICE("oci://"))) {
        struct reference unused;
        return reference_parse((struct slice){ model.data + 6, model.size - 6 }, &unused, err) < 0
                   ? err_wrap(err, "model")
                   : 0;
    }
    if (slice_starts(model, SLICE("sha256:")) && !spec_is_digest(model))
        return err_set(err, ERR_BAD_INPUT,
                       "model: '%s' is no digest: sha256: and 64 small hexadecimal digits",
                       ERR_SLICE(model));
    return 0;
}

/* What is of models alone, and of what is started here alone. */
static int check_upstream(const struct endpoint_spec *spec, struct err *err)
{
    struct spec_upstream upstream;
    const char *other = spec->runtime.size           ? "runtime"
                        : spec->batch.max            ? "batch.max"
                        : spec->scale.min            ? "scale.min"
                        : spec->scale.per_pop.min    ? "scale.per_pop.min"
                        : spec->scale.schedule.count ? "scale.schedule"
                                                     : NULL;

    int r = spec_upstream_parse(spec->upstream, &upstream, err);
    if (r < 0)
        return err_wrap(err, "upstream");
    if (other)
        return err_set(err, ERR_BAD_INPUT,
                       "%s: an upstream already runs, and is neither started nor scaled here",
                       other);
    return 0;
}

struct slice spec_protocol_default(const struct endpoint_spec *spec)
{
    return spec->upstream.size || spec->image.size ? SLICE("http") : SLICE("oip");
}

/* Exactly one thing runs. */
static int check_source(const struct endpoint_spec *spec, struct err *err)
{
    const char *first = spec->model.size ? "model" : spec->image.size ? "image" : "upstream";
    const char *second = spec->upstream.size ? "upstream" : "image";
    int count = (spec->model.size > 0) + (spec->image.size > 0) + (spec->upstream.size > 0);
    int r;

    if (count > 1)
        return err_set(err, ERR_BAD_INPUT, "%s: both '%s' and '%s' are there; one runs", second,
                       first, second);
    if (count == 0)
        return err_set(err, ERR_BAD_INPUT,
                       "'model' is missing: a file, a folder, or sha256:HEX of one uploaded; or "
                       "'image': PROJECT/NAME:TAG; or 'upstream': http://HOST:PORT");
    if ((r = spec_container_check(spec, err)) < 0 || (r = spec_probes_check(spec, err)) < 0)
        return r;
    if (spec->upstream.size)
        return check_upstream(spec, err);
    if (spec->scale.concurrency > SPEC_CONCURRENCY_MAX)
        return err_set(err, ERR_BAD_INPUT, "scale.concurrency: %llu is above %d",
                       (unsigned long long)spec->scale.concurrency, SPEC_CONCURRENCY_MAX);
    if (spec->image.size)
        return 0;
    if (slice_is(spec->protocol, "http"))
        return err_set(err, ERR_BAD_INPUT,
                       "protocol: a model speaks oip; http is an image's or an upstream's");
    return check_model(spec->model, err);
}

static int below(const char *key, uint64_t value, const char *bound_key, uint64_t bound,
                 struct err *err)
{
    if (value <= bound)
        return 0;
    return err_set(err, ERR_BAD_INPUT, "%s (%llu) is above %s (%llu)", key,
                   (unsigned long long)value, bound_key, (unsigned long long)bound);
}

static int check_scale(const struct endpoint_spec *spec, struct err *err)
{
    const typeof(spec->scale) *scale = &spec->scale;
    uint64_t pops = spec->spread.pops ? spec->spread.pops : 1;
    int r = below("scale.min", scale->min, "scale.max", scale->max, err);
    if (r == 0)
        r = below("scale.per_pop.min", scale->per_pop.min, "scale.max", scale->max, err);
    if (r == 0 && scale->per_pop.max)
        r = below("scale.per_pop.min", scale->per_pop.min, "scale.per_pop.max", scale->per_pop.max,
                  err);
    if (r == 0 && scale->rps_micro && scale->cpu_ppm)
        r = err_set(err, ERR_BAD_INPUT,
                    "scale.rps and scale.cpu: replicas follow one signal, leave one of them out");
    for (size_t i = 0; i < scale->schedule.count && r == 0; i++)
        if (scale->schedule.items[i].min > scale->max)
            r = err_set(
                err, ERR_BAD_INPUT, "scale.schedule[%zu].min (%llu) is above scale.max (%llu)", i,
                (unsigned long long)scale->schedule.items[i].min, (unsigned long long)scale->max);
    /* Each of the PoPs that there are to be has its least number. */
    if (r == 0 && scale->per_pop.min > 0 && pops > 1 && scale->per_pop.min * pops > scale->max)
        return err_set(err, ERR_BAD_INPUT,
                       "scale.per_pop.min (%llu) at each of spread.pops (%llu) is more than "
                       "scale.max (%llu)",
                       (unsigned long long)scale->per_pop.min, (unsigned long long)pops,
                       (unsigned long long)scale->max);
    return r;
}

static int check(const struct endpoint_spec *spec, unsigned flags, struct err *err)
{
    for (size_t i = 0; i < endpoint_option_count; i++) {
        const struct option *option = &endpoint_options[i];
        bool newer = flags & SPEC_KEEP_UNKNOWN && is_version(option);
        if (option->status != OPTION_LIVE || newer)
            continue;
        int r = option_check(option, spec, err);
        if (r < 0)
            return r;
    }
    int r = check_source(spec, err);
    if (r < 0)
        return r;
    r = check_scale(spec, err);
    if (r == 0)
        r = spec_accelerator_check(spec, err);
    if (r < 0)
        return r;
    if (spec->traffic.canary_ppm && spec->traffic.split.count)
        return err_set(err, ERR_BAD_INPUT,
                       "traffic.canary and traffic.split: both say who has the traffic, leave one "
                       "of them out");
    if (spec->batch.delay_ns && !spec->batch.max)
        return err_set(err, ERR_BAD_INPUT,
                       "batch.delay is there without batch.max, which says how many may wait for "
                       "each other");
    for (size_t i = 0; i < spec->aliases.count; i++)
        if (slice_equal(spec->aliases.items[i], spec->name))
            return err_set(err, ERR_BAD_INPUT, "aliases: '%s' is the endpoint's own name",
                           ERR_SLICE(spec->name));
    return 0;
}

uint32_t spec_concurrency(uint64_t told, uint64_t batch_max)
{
    uint64_t count = told ? told : 2 * batch_max > 4 ? 2 * batch_max : 4;

    return count < SPEC_CONCURRENCY_MAX ? (uint32_t)count : SPEC_CONCURRENCY_MAX;
}

uint32_t spec_places_max(uint64_t told, uint64_t batch_max)
{
    uint32_t count = spec_concurrency(told, batch_max);

    return told || count > 8 ? count : 8;
}

int endpoint_spec_check(const struct endpoint_spec *spec, struct err *err)
{
    return check(spec, spec->unknown.size ? SPEC_KEEP_UNKNOWN : 0, err);
}

/* --- reading a tree -------------------------------------------------------------------------- */

static int read_group(struct reader *reader, const char *group, yyjson_val *object);

static int read_member(struct reader *reader, const char *group, yyjson_val *key, yyjson_val *value)
{
    struct slice word = json_slice(key);
    char path[KEY_BYTES];
    const struct option *option = NULL;

    reader->where = key;
    int size = snprintf(path, sizeof path, "%s%s%.*s", group, *group ? "." : "", SLICE_FMT(word));
    bool whole = size < (int)sizeof path && !memchr(word.data, '\0', word.size) &&
                 !memchr(word.data, '.', word.size);
    if (whole && is_group(path) && (yyjson_is_obj(value) || !option_find(path))) {
        if (yyjson_is_obj(value) && yyjson_obj_size(value) == 0 && strncmp(path, "probes.", 7) == 0)
            return err_set(reader->err, ERR_BAD_INPUT, "%s: is empty; what does it ask for?", path);
        if (yyjson_is_obj(value))
            return read_group(reader, path, value);
        if (yyjson_is_null(value))
            return err_set(reader->err, ERR_BAD_INPUT,
                           "%s: has no value; leave the key out for its default", path);
        return err_set(reader->err, ERR_BAD_INPUT, "%s: must be an object, not %s", path,
                       json_kind(value));
    }
    if (whole)
        option = option_find(path);
    if (option && is_version(option) && reader->flags & SPEC_KEEP_UNKNOWN &&
        yyjson_is_uint(value)) {
        reader->spec->version = yyjson_get_uint(value);
        return 0;
    }
    if (option && option->status == OPTION_LIVE) {
        int r =
            option_read(option, reader->arena, value, reader->spec, &reader->where, reader->err);
        /* A newer form: who keeps what it does not know sees that it must not serve. */
        bool newer = option->type == OPTION_RESIDENCY || option->type == OPTION_REGIONS ||
                     option->type == OPTION_SCHEDULE || option->type == OPTION_SPLIT ||
                     option->type == OPTION_VOLUMES || option->type == OPTION_EGRESS ||
                     option->type == OPTION_ENV;
        return r < 0 && newer && reader->flags & SPEC_KEEP_UNKNOWN ? keep(reader, group, key, value)
                                                                   : r;
    }
    if (reader->flags & SPEC_KEEP_UNKNOWN)
        return keep(reader, group, key, value);
    return option ? not_yet(reader, option) : unknown_key(reader, group, word);
}

static int read_group(struct reader *reader, const char *group, yyjson_val *object)
{
    yyjson_obj_iter iter;
    yyjson_val *key;

    yyjson_obj_iter_init(object, &iter);
    while ((key = yyjson_obj_iter_next(&iter))) {
        int r = read_member(reader, group, key, yyjson_obj_iter_get_val(key));
        if (r < 0)
            return r;
    }
    return 0;
}

/* A newer form may hold anything: its number is said before any of its keys is. */
static int check_version(struct reader *reader, yyjson_val *tree)
{
    yyjson_val *version = json_member(tree, "version");

    if (!yyjson_is_uint(version) || yyjson_get_uint(version) <= ENDPOINT_SPEC_VERSION ||
        reader->flags & SPEC_KEEP_UNKNOWN)
        return 0;
    reader->where = version;
    return err_set(reader->err, ERR_BAD_INPUT,
                   "version: %llu is newer than this Perigee reads (%d)",
                   (unsigned long long)yyjson_get_uint(version), ENDPOINT_SPEC_VERSION);
}

/* What check() refuses begins with its key: as much of that as is in the tree. */
static yyjson_val *named_first(const char *message, yyjson_val *tree)
{
    struct slice rest = { message, strspn(message, "abcdefghijklmnopqrstuvwxyz0123456789_.") };
    yyjson_val *found = tree, *inside = tree;

    while (rest.size && inside) {
        struct slice word = slice_cut(&rest, '.');
        yyjson_obj_iter iter;
        yyjson_val *key, *value = NULL;
        yyjson_obj_iter_init(inside, &iter);
        while (!value && (key = yyjson_obj_iter_next(&iter)))
            if (slice_equal(json_slice(key), word)) {
                found = key;
                value = yyjson_obj_iter_get_val(key);
            }
        inside = yyjson_is_obj(value) ? value : NULL;
    }
    return found;
}

static int read_tree(struct reader *reader, yyjson_val *tree)
{
    reader->where = tree;
    if (!yyjson_is_obj(tree))
        return err_set(reader->err, ERR_BAD_INPUT, "a spec must be an object, not %s",
                       json_kind(tree));
    int r = check_version(reader, tree);
    if (r < 0)
        return r;
    endpoint_spec_defaults(reader->spec);
    reader->spec->protocol = (struct slice){};
    r = read_group(reader, "", tree);
    if (r < 0)
        return r;
    if (!reader->spec->protocol.size)
        reader->spec->protocol = spec_protocol_default(reader->spec);
    reader->where = tree;
    if (reader->kept)
        reader->spec->unknown =
            json_print_mut(reader->arena, yyjson_mut_doc_get_root(reader->kept), 0);
    if (reader->spec->name.size == 0 && !(reader->flags & SPEC_NAME_OPTIONAL))
        return err_set(reader->err, ERR_BAD_INPUT, "'name' is missing");
    r = check(reader->spec, reader->flags, reader->err);
    if (r < 0 && reader->err)
        reader->where = named_first(reader->err->message, tree);
    return r;
}

int endpoint_spec_parse(struct arena *arena, yyjson_val *tree, unsigned flags,
                        struct endpoint_spec *ret_spec, struct err *err)
{
    struct endpoint_spec spec;
    struct reader reader = { .arena = arena, .flags = flags, .spec = &spec, .err = err };
    int r = read_tree(&reader, tree);

    if (r == 0)
        *ret_spec = spec;
    return r;
}

void endpoint_spec_defaults(struct endpoint_spec *ret_spec)
{
    *ret_spec = (struct endpoint_spec){};
    for (size_t i = 0; i < endpoint_option_count; i++)
        if (endpoint_options[i].status == OPTION_LIVE)
            option_default(&endpoint_options[i], ret_spec);
}

/* ---- files ----------------------------------------------------------------------------------- */

static int check_unique(const struct endpoint_specs *specs, struct err *err)
{
    for (size_t i = 0; i < specs->count; i++)
        for (size_t j = 0; j < i; j++)
            if (slice_equal(specs->items[i].name, specs->items[j].name) &&
                slice_equal(specs->items[i].project, specs->items[j].project))
                return err_set(err, ERR_BAD_INPUT, "the endpoint '%s' is there twice",
                               ERR_SLICE(specs->items[i].name));
    return 0;
}

static int parse_yaml(struct reader *reader, struct slice text, struct endpoint_specs *specs)
{
    struct yaml_documents documents;
    int r = yaml_parse(reader->arena, text, NULL, &documents, reader->err);

    if (r < 0)
        return r;
    specs->items = ARENA_ARRAY(reader->arena, struct endpoint_spec, documents.count + 1);
    for (size_t i = 0; i < documents.count; i++) {
        reader->spec = &specs->items[specs->count++];
        reader->kept = NULL;
        r = read_tree(reader, documents.items[i].root);
        if (r < 0) {
            uint32_t line = yaml_line(&documents.items[i], reader->where);
            return line ? err_wrap(reader->err, "line %u", line) : r;
        }
    }
    return 0;
}

static int parse_json(struct reader *reader, struct slice text, struct endpoint_specs *specs)
{
    static const struct json_limits limits = { .bytes_max = 1 << 20, .depth_max = 32 };
    yyjson_val *root;
    int r = json_parse(reader->arena, text, &limits, &root, reader->err);

    if (r < 0)
        return r;
    size_t count = yyjson_is_arr(root) ? yyjson_arr_size(root) : 1;
    if (count > 1000)
        return err_set(reader->err, ERR_TOO_LARGE, "more than 1000 documents");
    specs->items = ARENA_ARRAY(reader->arena, struct endpoint_spec, count + 1);
    for (size_t i = 0; i < count; i++) {
        reader->spec = &specs->items[specs->count++];
        reader->kept = NULL;
        r = read_tree(reader, yyjson_is_arr(root) ? yyjson_arr_get(root, i) : root);
        if (r < 0)
            return count > 1 ? err_wrap(reader->err, "document %zu", i + 1) : r;
    }
    return 0;
}

int endpoint_spec_parse_text(struct arena *arena, struct slice text, enum spec_form form,
                             unsigned flags, struct endpoint_specs *ret_specs, struct err *err)
{
    struct reader reader = { .arena = arena, .flags = flags, .err = err };
    struct endpoint_specs specs = {};
    int r =
        form == SPEC_JSON ? parse_json(&reader, text, &specs) : parse_yaml(&reader, text, &specs);

    if (r == 0 && specs.count == 0)
        r = err_set(err, ERR_BAD_INPUT, "there is no document in it");
    if (r == 0)
        r = check_unique(&specs, err);
    if (r == 0)
        *ret_specs = specs;
    return r;
}
