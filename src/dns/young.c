/* SPDX-License-Identifier: Apache-2.0 */
/* The map's values are times, as pointers: 1 is long ago. */
#include "dns/young.h"

#include "contract/table.h"

#define LONG_AGO ((void *)(uintptr_t)1)

void dns_young_deinit(struct dns_young *young)
{
    map_deinit(&young->first);
}

void dns_young_table(struct dns_young *young, const struct table_head *table, int64_t now_ns)
{
    struct map before = young->first;
    young->first = (struct map){};
    for (uint32_t i = 0; i < table->endpoints.count; i++) {
        uint64_t uid = table_endpoint(table, i)->uid;
        void *first = map_get_u64(&before, uid);
        if (!first) {
            first = young->begun ? (void *)(uintptr_t)now_ns : LONG_AGO;
            young->until_ns = young->begun ? now_ns + DNS_YOUNG_NS : young->until_ns;
        }
        (void)map_put_u64(&young->first, uid, first);
    }
    young->begun = true;
    map_deinit(&before);
}

bool dns_young_is(const struct dns_young *young, uint64_t endpoint, int64_t now_ns)
{
    if (now_ns >= young->until_ns)
        return false;
    void *first = map_get_u64(&young->first, endpoint);
    return first && first != LONG_AGO && now_ns - (int64_t)(uintptr_t)first < DNS_YOUNG_NS;
}
