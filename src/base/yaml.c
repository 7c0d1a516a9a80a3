/* SPDX-License-Identifier: Apache-2.0 */
#include "base/yaml.h"

#include <assert.h>
#include <stdlib.h>
#include <yaml.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/yaml_scalar.h"

/*
 * Events become values laid flat, as yyjson's reader lays them: a container, then all that is in
 * it; its `ofs` is the way behind it. Offsets are relative, so that an alias is one copy of a
 * range.
 */

enum { ANCHORS_MAX = 256 };

struct frame {
    size_t index; /* of the container among the values */
    size_t items; /* members or elements so far */
    bool mapping;
    bool key; /* a mapping waits for a key */
    struct slice anchor;
};

struct anchor {
    struct slice name;
    size_t first, end; /* its values */
    uint32_t depth;    /* of containers in it */
};

struct reader {
    struct arena *arena;
    yaml_parser_t parser;
    struct yaml_limits limits;

    yyjson_val *values; /* of the document being read; heap */
    uint32_t *lines;
    size_t count, room;
    size_t count_all; /* of documents before */

    struct frame frames[JSON_DEPTH_MAX];
    uint32_t depth;
    struct anchor anchors[ANCHORS_MAX];
    size_t anchor_count;

    struct yaml_document *documents;
    size_t document_count, document_room;
};

static unsigned line_of(const yaml_event_t *event)
{
    return (unsigned)event->start_mark.line + 1;
}

static struct slice name_of(const yaml_char_t *name)
{
    return slice_of((const char *)name);
}

static int parser_failed(const yaml_parser_t *parser, struct err *err)
{
    const char *problem = parser->problem ? parser->problem : "not YAML";

    switch (parser->error) {
    case YAML_MEMORY_ERROR:
        mem_abort(0);
    case YAML_READER_ERROR:
        return err_set(err, ERR_BAD_INPUT, "byte %zu: %s", parser->problem_offset, problem);
    default:
        if (parser->context)
            return err_set(err, ERR_BAD_INPUT, "line %zu: %s (%s)", parser->problem_mark.line + 1,
                           problem, parser->context);
        return err_set(err, ERR_BAD_INPUT, "line %zu: %s", parser->problem_mark.line + 1, problem);
    }
}

static int values_grow(struct reader *reader, size_t more, unsigned line, struct err *err)
{
    if (more > reader->limits.nodes_max - reader->count_all - reader->count)
        return err_set(err, ERR_TOO_LARGE, "line %u: more than %u values (aliases count as copies)",
                       line, reader->limits.nodes_max);
    if (reader->count + more > reader->room) {
        while (reader->room < reader->count + more)
            reader->room = reader->room ? reader->room * 2 : 64;
        reader->values = mem_resize(reader->values, reader->room, sizeof *reader->values);
        reader->lines = mem_resize(reader->lines, reader->room, sizeof *reader->lines);
    }
    return 0;
}

static int value_add(struct reader *reader, const yyjson_val *value, unsigned line, struct err *err)
{
    int r = values_grow(reader, 1, line, err);
    if (r < 0)
        return r;
    reader->values[reader->count] = *value;
    reader->lines[reader->count++] = line;
    return 0;
}

/* A value has begun: counts it where it stands. Keys are told apart before. */
static void item_begun(struct reader *reader)
{
    if (reader->depth == 0)
        return;
    struct frame *frame = &reader->frames[reader->depth - 1];
    if (frame->mapping && frame->key) {
        frame->key = false;
        return;
    }
    frame->items++;
    frame->key = frame->mapping;
}

static bool key_wanted(const struct reader *reader)
{
    const struct frame *frame = reader->depth ? &reader->frames[reader->depth - 1] : NULL;
    return frame && frame->mapping && frame->key;
}

static int anchor_add(struct reader *reader, struct slice name, size_t first, uint32_t depth,
                      unsigned line, struct err *err)
{
    if (!name.data)
        return 0;
    if (reader->anchor_count == ANCHORS_MAX)
        return err_set(err, ERR_TOO_LARGE, "line %u: more than %d anchors", line, ANCHORS_MAX);
    reader->anchors[reader->anchor_count++] = (struct anchor){ name, first, reader->count, depth };
    return 0;
}

/* Containers in values[first, end), the deepest chain. */
static uint32_t depth_of(const struct reader *reader, size_t first, size_t end)
{
    size_t ends[JSON_DEPTH_MAX];
    uint32_t depth = 0, most = 0;

    for (size_t i = first; i < end; i++) {
        yyjson_val *value = &reader->values[i];
        while (depth && i >= ends[depth - 1])
            depth--;
        if (!unsafe_yyjson_is_ctn(value))
            continue;
        assert(depth < JSON_DEPTH_MAX);
        ends[depth++] = i + value->uni.ofs / sizeof *value;
        most = depth > most ? depth : most;
    }
    return most;
}

static int on_scalar(struct reader *reader, const yaml_event_t *event, struct err *err)
{
    unsigned line = line_of(event);
    struct slice text = { (const char *)event->data.scalar.value, event->data.scalar.length };
    struct slice anchor = {};
    yyjson_val value = {};

    text = arena_copy(reader->arena, text);
    if (key_wanted(reader)) {
        unsafe_yyjson_set_strn(&value, text.data, text.size);
    } else {
        struct slice tag =
            event->data.scalar.tag ? name_of(event->data.scalar.tag) : (struct slice){};
        bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        int r = yaml_scalar_value(text, plain, tag, &value, err);
        if (r < 0)
            return err_wrap(err, "line %u", line);
    }
    if (event->data.scalar.anchor)
        anchor = arena_copy(reader->arena, name_of(event->data.scalar.anchor));

    size_t first = reader->count;
    int r = value_add(reader, &value, line, err);
    if (r < 0)
        return r;
    item_begun(reader);
    return anchor_add(reader, anchor, first, 0, line, err);
}

static int on_alias(struct reader *reader, const yaml_event_t *event, struct err *err)
{
    unsigned line = line_of(event);
    struct slice name = name_of(event->data.alias.anchor);
    const struct anchor *anchor = NULL;

    for (size_t i = reader->anchor_count; i-- && !anchor;)
        if (slice_equal(reader->anchors[i].name, name))
            anchor = &reader->anchors[i];
    if (!anchor) {
        for (uint32_t i = 0; i < reader->depth; i++)
            if (reader->frames[i].anchor.data && slice_equal(reader->frames[i].anchor, name))
                return err_set(err, ERR_BAD_INPUT, "line %u: '*%s' stands inside itself", line,
                               ERR_SLICE(name));
        return err_set(err, ERR_BAD_INPUT, "line %u: no anchor '&%s' before", line,
                       ERR_SLICE(name));
    }
    if (key_wanted(reader) && !yyjson_is_str(&reader->values[anchor->first]))
        return err_set(err, ERR_BAD_INPUT, "line %u: a key must be text", line);
    if (reader->depth + anchor->depth > reader->limits.depth_max)
        return err_set(err, ERR_BAD_INPUT, "line %u: nested more than %u levels deep", line,
                       reader->limits.depth_max);

    size_t count = anchor->end - anchor->first;
    int r = values_grow(reader, count, line, err);
    if (r < 0)
        return r;
    memcpy(&reader->values[reader->count], &reader->values[anchor->first],
           count * sizeof *reader->values);
    for (size_t i = 0; i < count; i++)
        reader->lines[reader->count + i] = line;
    reader->count += count;
    item_begun(reader);
    return 0;
}

static int on_open(struct reader *reader, const yaml_event_t *event, bool mapping, struct err *err)
{
    unsigned line = line_of(event);
    const yaml_char_t *anchor =
        mapping ? event->data.mapping_start.anchor : event->data.sequence_start.anchor;
    const yaml_char_t *tag =
        mapping ? event->data.mapping_start.tag : event->data.sequence_start.tag;
    const char *plain_tag = mapping ? "tag:yaml.org,2002:map" : "tag:yaml.org,2002:seq";

    if (key_wanted(reader))
        return err_set(err, ERR_BAD_INPUT, "line %u: a key must be text", line);
    if (tag && !slice_is(name_of(tag), plain_tag) && !slice_is(name_of(tag), "!"))
        return err_set(err, ERR_BAD_INPUT, "line %u: the tag '%s' is not known here", line,
                       ERR_SLICE(name_of(tag)));
    if (reader->depth == reader->limits.depth_max)
        return err_set(err, ERR_BAD_INPUT, "line %u: nested more than %u levels deep", line,
                       reader->limits.depth_max);

    yyjson_val value = {};
    int r = value_add(reader, &value, line, err);
    if (r < 0)
        return r;
    item_begun(reader);
    struct frame *frame = &reader->frames[reader->depth++];
    *frame = (struct frame){ .index = reader->count - 1, .mapping = mapping, .key = mapping };
    if (anchor)
        frame->anchor = arena_copy(reader->arena, name_of(anchor));
    return 0;
}

static int on_close(struct reader *reader, const yaml_event_t *event, struct err *err)
{
    struct frame *frame = &reader->frames[--reader->depth];
    yyjson_val *value = &reader->values[frame->index];
    size_t extent = reader->count - frame->index;

    if (frame->mapping)
        unsafe_yyjson_set_obj(value, frame->items);
    else
        unsafe_yyjson_set_arr(value, frame->items);
    value->uni.ofs = extent * sizeof *value;
    if (!frame->anchor.data)
        return 0;
    return anchor_add(reader, frame->anchor, frame->index,
                      depth_of(reader, frame->index, reader->count), line_of(event), err);
}

static int check_keys(const struct yaml_document *document, struct err *err)
{
    if (json_check_duplicates(document->root, document->count, err) == 0)
        return 0;
    for (size_t i = 0; i < document->count; i++) {
        yyjson_val *value = &document->root[i];
        struct err inner;
        if (!unsafe_yyjson_is_obj(value) || json_check_duplicates(value, 1, &inner) == 0)
            continue;
        size_t last = i + value->uni.ofs / sizeof *value - 1;
        return err_set(err, ERR_BAD_INPUT, "lines %u to %u: %s", document->lines[i],
                       document->lines[last], inner.message);
    }
    return ERR_BAD_INPUT;
}

static int on_document_end(struct reader *reader, struct err *err)
{
    assert(reader->depth == 0);
    size_t count = reader->count;
    bool empty = count == 0 || (count == 1 && yyjson_is_null(&reader->values[0]));

    reader->anchor_count = 0;
    reader->count = 0;
    if (empty)
        return 0;
    if (reader->document_count == reader->limits.documents_max)
        return err_set(err, ERR_TOO_LARGE, "more than %u documents", reader->limits.documents_max);
    if (reader->document_count == reader->document_room) {
        reader->document_room = reader->document_room ? reader->document_room * 2 : 8;
        reader->documents =
            mem_resize(reader->documents, reader->document_room, sizeof *reader->documents);
    }
    yyjson_val *root = ARENA_ARRAY(reader->arena, yyjson_val, count);
    uint32_t *lines = ARENA_ARRAY(reader->arena, uint32_t, count);
    memcpy(root, reader->values, count * sizeof *root);
    memcpy(lines, reader->lines, count * sizeof *lines);
    struct yaml_document document = { root, count, lines };
    reader->documents[reader->document_count++] = document;
    reader->count_all += count;
    return check_keys(&document, err);
}

static int on_event(struct reader *reader, const yaml_event_t *event, struct err *err)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return on_scalar(reader, event, err);
    case YAML_ALIAS_EVENT:
        return on_alias(reader, event, err);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(reader, event, false, err);
    case YAML_MAPPING_START_EVENT:
        return on_open(reader, event, true, err);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_close(reader, event, err);
    case YAML_DOCUMENT_END_EVENT:
        return on_document_end(reader, err);
    default:
        return 0;
    }
}

static int read_all(struct reader *reader, struct err *err)
{
    for (bool done = false; !done;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&reader->parser, &event))
            return parser_failed(&reader->parser, err);
        int r = on_event(reader, &event, err);
        done = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
        if (r < 0)
            return r;
    }
    return 0;
}

int yaml_parse(struct arena *arena, struct slice text, const struct yaml_limits *limits,
               struct yaml_documents *ret_documents, struct err *err)
{
    struct yaml_limits used = limits ? *limits : (struct yaml_limits){};
    used.bytes_max = used.bytes_max ? used.bytes_max : (size_t)1 << 20;
    used.depth_max = used.depth_max ? used.depth_max : 32;
    used.nodes_max = used.nodes_max ? used.nodes_max : 100'000;
    used.documents_max = used.documents_max ? used.documents_max : 1000;
    assert(used.depth_max <= JSON_DEPTH_MAX);

    if (text.size > used.bytes_max)
        return err_set(err, ERR_TOO_LARGE, "%zu bytes of YAML, the limit is %zu", text.size,
                       used.bytes_max);
    auto_free struct reader *reader = mem_zalloc(sizeof *reader);
    reader->arena = arena;
    reader->limits = used;
    if (!yaml_parser_initialize(&reader->parser))
        mem_abort(sizeof reader->parser);
    yaml_parser_set_encoding(&reader->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader->parser,
                                 (const unsigned char *)(text.data ? text.data : ""), text.size);

    int r = read_all(reader, err);
    if (r == 0) {
        struct yaml_document *items =
            ARENA_ARRAY(arena, struct yaml_document, reader->document_count + 1);
        if (reader->document_count)
            memcpy(items, reader->documents, reader->document_count * sizeof *items);
        *ret_documents = (struct yaml_documents){ items, reader->document_count };
    }
    yaml_parser_delete(&reader->parser);
    free(reader->values);
    free(reader->lines);
    free(reader->documents);
    return r;
}

uint32_t yaml_line(const struct yaml_document *document, const yyjson_val *value)
{
    if (value < document->root || value >= document->root + document->count)
        return 0;
    return document->lines[value - document->root];
}
