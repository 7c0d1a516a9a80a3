/* SPDX-License-Identifier: Apache-2.0 */
/* What yaml_parse() lets through is printed as YAML and as JSON, and both read as the same tree. */
#include <assert.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct arena *arena, const struct yaml_document *document)
{
    struct yaml_limits limits = { .bytes_max = 64 << 20, .nodes_max = 20'000 };
    struct yaml_documents again = {};
    yyjson_val *root;

    struct slice json = json_print(arena, document->root, 0);
    int r = json_parse(arena, json, NULL, &root, NULL);
    assert(r == 0);
    r = yaml_parse(arena, yaml_print(arena, document->root), &limits, &again, NULL);
    assert(r == 0 && again.count == 1);
    assert(slice_equal(json_print(arena, again.items[0].root, 0), json));
    for (size_t i = 0; i < document->count; i++)
        assert(yaml_line(document, document->root + i) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct yaml_limits limits = { .bytes_max = 1 << 16, .nodes_max = 10'000 };
    struct yaml_documents documents;

    if (yaml_parse(arena, (struct slice){ (const char *)data, size }, &limits, &documents, NULL) ==
        0)
        for (size_t i = 0; i < documents.count; i++)
            check(arena, &documents.items[i]);
    arena_free(arena);
    return 0;
}
