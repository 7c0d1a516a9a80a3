/* SPDX-License-Identifier: Apache-2.0 */
/* A file of cases that is taken can be decided: every case has an outcome, a client, a PoP. */
#include <assert.h>

#include "base/arena.h"
#include "cli/policy_cases.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct policy_cases cases;

    if (policy_cases_parse(arena, (struct slice){ (const char *)data, size }, &cases, NULL) == 0) {
        struct where_map *map = NULL;
        assert(cases.count > 0);
        (void)!where_map_open(cases.addresses, cases.address_count, NULL, NULL, &map, NULL);
        for (size_t i = 0; i < cases.count; i++) {
            const struct policy_case *item = &cases.items[i];
            assert(item->expected <= POLICY_REFUSE && item->client_text.size > 0);
            assert(item->client <= COUNTRY_NUMBER_MAX && item->pop.country <= COUNTRY_NUMBER_MAX);
            if (item->by_address)
                assert(where_find(map, &item->address).country <= COUNTRY_NUMBER_MAX);
        }
        where_map_free(map);
    }
    arena_free(arena);
    return 0;
}
