/* SPDX-License-Identifier: Apache-2.0 */
/* A mesh that passes the check (behind an m) answers every question without leaving its bytes; so
 * does a gateway's report of load (behind an l). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "contract/mesh.h"
#include "contract/peer_load.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void mesh(struct slice bytes)
{
    if (mesh_check(bytes, NULL) < 0)
        return;
    const struct mesh_head *mesh = (const void *)bytes.data;
    for (uint32_t i = 0; i < mesh->pop_count; i++)
        if (mesh_find_pop(mesh, slice_of(mesh_pops(mesh)[i].name)) != &mesh_pops(mesh)[i])
            abort();
    for (uint64_t uid = 0; uid < 16; uid++) {
        size_t count;
        const struct mesh_load *loads = mesh_loads(mesh, uid, &count);
        if (!(mesh_last_start_ms(loads, count) >= 0))
            abort();
        for (size_t i = 0; i < count; i++)
            if (loads[i].endpoint != uid || loads[i].pop >= mesh->pop_count ||
                mesh_load_at(loads, count, loads[i].pop) != &loads[i])
                abort();
    }
    if (mesh_differs(mesh, mesh))
        abort();
    (void)mesh_fresh(mesh, 0);
}

static void load(struct slice bytes)
{
    if (peer_load_check(bytes, NULL) < 0)
        return;
    struct peer_load_head head = peer_load_head(bytes);
    for (uint32_t i = 0; i < head.count; i++)
        if (!(peer_load_row(bytes, i).arrivals_per_s >= 0) ||
            !(peer_load_row(bytes, i).last_start_ms >= 0))
            abort();
    for (uint32_t i = 0; i < peer_load_reached(&head); i++) {
        uint64_t name;
        memcpy(&name, bytes.data + peer_load_bytes(head.version, head.count, i), sizeof name);
        if (!peer_load_reaches(bytes, name))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char *copy = malloc(size); /* aligned, and its end is the sanitizer's */
    memcpy(copy, data + 1, size - 1);
    struct slice bytes = { copy, size - 1 };
    if (data[0] == 'm')
        mesh(bytes);
    else
        load(bytes);
    free(copy);
    return 0;
}
