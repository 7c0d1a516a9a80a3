/* SPDX-License-Identifier: Apache-2.0 */
#include "contract/peer_load.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/map.h"

static_assert(sizeof(struct peer_load_head) == 40 && sizeof(struct peer_load_row) == 40 &&
              offsetof(struct peer_load_row, last_start_ms) == 32);
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

struct peer_load_head peer_load_head(struct slice bytes)
{
    struct peer_load_head head;
    memcpy(&head, bytes.data, sizeof head);
    return head;
}

struct peer_load_row peer_load_row(struct slice bytes, uint32_t index)
{
    struct peer_load_row row = {};
    unsigned version = peer_load_head(bytes).version;
    memcpy(&row, bytes.data + peer_load_bytes(version, index, 0), peer_load_row_bytes(version));
    return row;
}

static uint64_t reached_at(struct slice bytes, const struct peer_load_head *head, uint32_t index)
{
    uint64_t name;
    memcpy(&name, bytes.data + peer_load_bytes(head->version, head->count, index), sizeof name);
    return name;
}

bool peer_load_reaches(struct slice bytes, uint64_t name)
{
    struct peer_load_head head = peer_load_head(bytes);
    uint32_t low = 0, high = peer_load_reached(&head);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint64_t at = reached_at(bytes, &head, middle);
        if (at == name)
            return true;
        if (at < name)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

uint64_t peer_load_name(struct slice name)
{
    static const uint64_t key[2] = { UINT64_C(0x5065726967656520), UINT64_C(0x706565722064776e) };
    return map_hash_keyed(key, name);
}

static bool within(float value, float most)
{
    return value >= 0 && value <= most; /* NAN is not */
}

static bool row_right(const struct peer_load_row *row)
{
    return within(row->arrivals_per_s, PEER_LOAD_RATE_MAX) &&
           within(row->capacity_per_s, PEER_LOAD_RATE_MAX) &&
           within(row->service_ms, PEER_LOAD_MS_MAX) &&
           within(row->last_start_ms, PEER_LOAD_MS_MAX) &&
           (within(row->start_ms, PEER_LOAD_MS_MAX) || (isinf(row->start_ms) && row->start_ms > 0));
}

int peer_load_check(struct slice bytes, struct err *err)
{
    if (bytes.size < sizeof(struct peer_load_head))
        return err_set(err, ERR_BAD_INPUT, "a report of load of %zu bytes has no head", bytes.size);
    struct peer_load_head head = peer_load_head(bytes);
    if (head.magic != PEER_LOAD_MAGIC)
        return err_set(err, ERR_BAD_INPUT, "no report of load (it begins with %x)", head.magic);
    bool first = head.version == PEER_LOAD_VERSION_FIRST;
    if (head.version < PEER_LOAD_VERSION_FIRST || head.version > PEER_LOAD_VERSION)
        return err_set(err, ERR_BAD_INPUT,
                       "a report of load of version %u, here %u to %u are read: upgrade the older "
                       "one",
                       head.version, PEER_LOAD_VERSION_FIRST, PEER_LOAD_VERSION);
    if (head.count > PEER_LOAD_ROWS_MAX || head.reached > PEER_LOAD_REACHED_MAX ||
        peer_load_bytes(head.version, head.count, head.reached) != bytes.size)
        return err_set(err, ERR_BAD_INPUT, "a report of load of %u and %u rows has %zu bytes",
                       head.count, head.reached, bytes.size);
    if (head.flags & ~(PEER_LOAD_WHOLE | (first ? PEER_LOAD_FIRST_SEES : 0)) || head.number == 0 ||
        head.since > head.number)
        return err_set(err, ERR_BAD_INPUT, "a report of load that goes upon a later one");
    uint64_t last = 0;
    for (uint32_t i = 0; i < head.count; i++) {
        struct peer_load_row row = peer_load_row(bytes, i);
        if (!row_right(&row) || (i > 0 && row.endpoint <= last))
            return err_set(err, ERR_BAD_INPUT,
                           "row %u of a report of load is out of range, or of order", i);
        last = row.endpoint;
    }
    for (uint32_t i = 1; i < head.reached; i++)
        if (reached_at(bytes, &head, i) <= reached_at(bytes, &head, i - 1))
            return err_set(err, ERR_BAD_INPUT,
                           "PoPs that a report of load says are reached are out of order");
    return 0;
}
