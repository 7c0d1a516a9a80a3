/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yaml.h -- YAML 1.2 (core schema) into the same trees that json.h reads, and back.
 *
 * libyaml's events become flat yyjson values in the arena; each remembers its line. `on`, `yes`
 * and `1:30` are strings; true, null, 0x1f, 1e3 are what they look like. Aliases are copied, and
 * the copies count: a document that explodes is refused. Duplicate keys, keys that are not
 * scalars, tags of one's own, .inf and .nan are errors, which say "line 7: ...". Any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <yyjson.h>

#include "base/slice.h"

struct arena;
struct err;

struct yaml_limits {
    size_t bytes_max;       /* 0: 1 MiB */
    uint32_t depth_max;     /* 0: 32; at most JSON_DEPTH_MAX */
    uint32_t nodes_max;     /* values after aliases are copied, over all documents; 0: 100000 */
    uint32_t documents_max; /* 0: 1000 */
};

struct yaml_document {
    yyjson_val *root;
    size_t count;          /* values that lie behind `root` */
    const uint32_t *lines; /* one for each of them, from 1 */
};

struct yaml_documents {
    struct yaml_document *items; /* empty documents are left out */
    size_t count;
};

[[nodiscard]] int yaml_parse(struct arena *arena, struct slice text,
                             const struct yaml_limits *limits, struct yaml_documents *ret_documents,
                             struct err *err);

/* The line of a value of this document; 0 when it is not of it. */
uint32_t yaml_line(const struct yaml_document *document, const yyjson_val *value);

/* Block style, strings quoted only where they would read as something else; ends in a newline.
 * yaml_parse() of it gives the same tree. */
struct slice yaml_print(struct arena *arena, yyjson_val *root);
