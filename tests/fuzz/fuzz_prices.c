/* SPDX-License-Identifier: Apache-2.0 */
/* A price list that is taken reads the same once it is written, and prices what it is asked. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/json.h"
#include "policy/price.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct figures figures = { .requests = 7, .cpu_us = 9, .memory_kibs = 3 };
    struct arena *arena = arena_new();
    struct price_list list, again;
    yyjson_val *root;
    if (json_parse(arena, (struct slice){ (const char *)data, size }, NULL, &root, NULL) == 0 &&
        price_list_parse(arena, root, &list, NULL) == 0) {
        struct slice text = price_list_json(arena, &list);
        if (json_parse(arena, text, NULL, &root, NULL) < 0 ||
            price_list_parse(arena, root, &again, NULL) < 0 || again.count != list.count)
            abort();
        for (size_t i = 0; i < list.count; i++) {
            struct cost cost = {};
            const struct price_row *row = price_find(&list, list.rows[i].pop, list.rows[i].from_s);
            if (!row || memcmp(&again.rows[i].price, &list.rows[i].price, sizeof row->price) != 0)
                abort();
            cost_add(&cost, &row->price, &figures);
            if (price_micro(cost_total(&cost)) < 0)
                abort();
        }
    }
    arena_free(arena);
    return 0;
}
