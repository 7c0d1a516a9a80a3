/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints docs/limits.md from the tables that the gateway keeps to.
 */
#include <stdio.h>

#include "base/arena.h"
#include "gateway/core.h"
#include "http/server.h"

int main(void)
{
    struct arena *arena = arena_new();
    printf("# Limits\n\n"
           "What an endpoint's own spec bounds is in [spec.md](spec.md). A name ends in its unit. "
           "Made from the\n"
           "tables in the code.\n\n"
           "## HTTP at the gateway\n\n"
           "`perigee up --limits head_ms=5000,address_connections_max=64`, or `PERIGEE_LIMITS` in "
           "its environment,\n"
           "changes them. Control and the admin port keep these values, the latter with\n"
           "256 connections at most.\n\n"
           "| name | default | what it bounds |\n| --- | --- | --- |\n%.*s",
           SLICE_FMT(http_server_limits_docs(arena)));
    printf("\n`perigee up` raises the number of descriptors a process may have as far as it may; "
           "three quarters of\n"
           "the gateway's are for clients, whatever `connections_max` says. What was sent away, "
           "closed for another\n"
           "or too slow is counted ([metrics.md](metrics.md)).\n"
           "\n## Requests at the gateway\n\nFixed.\n\n"
           "| name | value | what it bounds |\n| --- | --- | --- |\n");
#define ROW(name, value, text) printf("| `%s` | %d | %s |\n", #name, value, text);
    GATEWAY_LIMITS(ROW)
#undef ROW
    arena_free(arena);
    return 0;
}
