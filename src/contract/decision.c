/* SPDX-License-Identifier: Apache-2.0 */
#include "contract/decision.h"

#include <math.h>
#include <string.h>

const char *decision_rtt_text(unsigned source)
{
    static const char *const texts[DECISION_RTT_END] = {
        [DECISION_RTT_TCP] = "TCP",
        [DECISION_RTT_TRUSTED] = "trusted peer",
    };
    return source < DECISION_RTT_END ? texts[source] : NULL;
}

float decision_client_ms(const struct decision_record *decision)
{
    float ms = decision->client_rtt_ms;
    return decision_rtt_text(decision->client_rtt_source) && ms > 0 && ms < INFINITY ? ms : 0;
}

void decision_write(struct decision_ring *ring, const struct decision_record *decision)
{
    uint64_t next = atomic_load_explicit(&ring->next, memory_order_relaxed);
    struct decision_row *row = &ring->rows[next % DECISION_RING];
    uint32_t version = atomic_load_explicit(&row->version, memory_order_relaxed);

    atomic_store(&row->version, version | 1);
    atomic_thread_fence(memory_order_release);
    memcpy(&row->decision, decision,
           offsetof(struct decision_record, pops) + decision->pop_count * sizeof *decision->pops);
    atomic_store(&row->version, (version | 1) + 1);
    atomic_store(&ring->next, next + 1);
}

static bool ended(const char *text, size_t room)
{
    return memchr(text, 0, room) != NULL;
}

static bool has_id(const struct decision_record *decision, struct slice id)
{
    return id.size < sizeof decision->id && memcmp(decision->id, id.data, id.size) == 0 &&
           decision->id[id.size] == '\0';
}

/* As a gateway that has gone wrong may have left it; the id apart. */
static bool right(const struct decision_record *decision)
{
    bool good = ended(decision->country, sizeof decision->country) &&
                ended(decision->why, sizeof decision->why) &&
                ended(decision->chosen, sizeof decision->chosen) &&
                decision->pop_count <= DECISION_POPS_MAX;
    for (unsigned i = 0; good && i < decision->pop_count; i++)
        good = ended(decision->pops[i].name, sizeof decision->pops[i].name);
    return good;
}

/* Looked at before it is copied: most are others'. */
static bool row_read(const struct decision_row *row, struct slice id, struct decision_record *ret)
{
    uint32_t version = atomic_load(&row->version);

    if (version == 0 || version & 1 || !has_id(&row->decision, id))
        return false;
    struct decision_record copy = row->decision;
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load(&row->version) != version || !right(&copy) || !has_id(&copy, id))
        return false;
    *ret = copy;
    return true;
}

bool decision_find(const struct decision_ring *rings, size_t count, struct slice id,
                   struct decision_record *ret)
{
    struct decision_record found;
    bool any = false;

    for (size_t i = 0; i < count && id.size; i++)
        for (size_t k = 0; k < DECISION_RING; k++)
            if (row_read(&rings[i].rows[k], id, &found) && (!any || found.at_s >= ret->at_s)) {
                *ret = found;
                any = true;
            }
    return any;
}
