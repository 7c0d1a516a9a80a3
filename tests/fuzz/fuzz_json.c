/* SPDX-License-Identifier: Apache-2.0 */
/* What json_parse() lets through is printed and read again, and says the same. */
#include <assert.h>

#include "base/arena.h"
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct json_limits limits = { .bytes_max = 1 << 20, .memory_max = 8 << 20 };
    yyjson_val *root, *again;

    if (json_parse(arena, (struct slice){ (const char *)data, size }, &limits, &root, NULL) == 0) {
        struct slice text = json_print(arena, root, 0);
        limits.bytes_max = 16 << 20;
        limits.memory_max = 256 << 20;
        int r = json_parse(arena, text, &limits, &again, NULL);
        assert(r == 0);
        struct slice text_again = json_print(arena, again, JSON_NEWLINE);
        assert(text_again.size == text.size + 1);
        assert(slice_starts(text_again, text));

        struct json_writer writer;
        json_begin(&writer, arena, 0);
        json_array_begin(&writer);
        json_value(&writer, root);
        json_string(&writer, (struct slice){ (const char *)data, size });
        json_array_end(&writer);
        limits.depth_max = 65;
        r = json_parse(arena, json_end(&writer), &limits, &again, NULL);
        assert(r == 0);
    }
    arena_free(arena);
    return 0;
}
