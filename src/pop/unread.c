/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What control tells and this PoP does not understand: it may be of a later version. Nobody can say
 * then what is of no use here any more.
 */
#include "base/err.h"
#include "base/json.h"
#include "pop/state_inside.h"

void pop_unread_set(struct pop *pop, uint64_t uid, bool unread)
{
    if (unread)
        (void)map_put_u64(&pop->unread, uid, (void *)pop->syncs);
    else
        (void)map_remove_u64(&pop->unread, uid);
}

void pop_unread_prune(struct pop *pop)
{
    MAP_EACH (entry, &pop->unread)
        if ((uintptr_t)entry->value != pop->syncs)
            (void)map_remove_u64(&pop->unread, entry->key.size);
}

bool pop_unread(const struct pop *pop, uint64_t endpoint_uid)
{
    return endpoint_uid ? map_get_u64(&pop->unread, endpoint_uid) || map_get_u64(&pop->unread, 0)
                        : pop->unread.count > 0;
}

void pop_unread_document(struct pop *pop, yyjson_val *root)
{
    uint64_t uid = 0;
    struct err ignored;
    if (!root || json_get_u64(root, "uid", JSON_REQUIRED, &uid, &ignored) < 0)
        uid = 0;
    struct pop_endpoint *endpoint = pop_endpoint_find(pop, uid);
    if (endpoint)
        endpoint->barred = NULL;
    pop_unread_set(pop, uid, true);
}
