/* SPDX-License-Identifier: Apache-2.0 */
/* A table that passes the check answers every question without leaving its bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "contract/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size ? size : 1); /* aligned, and its end is the sanitizer's */
    struct slice bytes = { copy, size };

    if (size)
        memcpy(copy, data, size);
    if (table_check(bytes, NULL) == 0) {
        const struct table_head *table = (const void *)copy;
        for (uint32_t i = 0; i < table->endpoints.count; i++) {
            const struct table_endpoint *e = table_endpoint(table, i);
            if (table_find_endpoint(table, table_text(table, e->project),
                                    table_text(table, e->name)) != i)
                abort();
            (void)table_origin_allowed(table, e, SLICE("https://x"));
            (void)table_find_revision(table, e, 1);
            const struct table_residency *residency = table_residency(table, i);
            for (uint32_t k = 0; residency && k < residency->rule_count; k++)
                if (table_rules(table, residency)[k].process.scope > RESIDENCY_SAME_COUNTRY)
                    abort();
        }
        const struct table_pop *pop;
        for (uint32_t i = 0; (pop = table_pop(table, i)); i++)
            if (pop->country > COUNTRY_NUMBER_MAX)
                abort();
        for (uint32_t i = 0; i < table->revisions.count; i++) {
            const struct table_reach *reach = table_reach(table, i);
            for (uint32_t k = 0; reach && k < reach->target_count; k++)
                if (table_targets(table, reach)[k].port > UINT16_MAX)
                    abort();
        }
        (void)table_find_alias(table, SLICE("default"), SLICE("x"));
        (void)table_find_host(table, SLICE("x"));
    }
    free(copy);
    return 0;
}
