/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints docs/metrics.md from the tables that the programs count with.
 */
#include <stdio.h>

#include "base/arena.h"
#include "contract/dns_metrics.h"
#include "contract/gateway_metrics.h"
#include "control/control_own.h"
#include "pop/pop_metrics.h"

static void table_print(struct arena *arena, const char *title, const char *text,
                        const struct metric_table *table)
{
    struct slice rows = metrics_docs(arena, table);
    printf("\n## %s\n\n%s\n\n| name | type | unit | labels | meaning |\n"
           "| --- | --- | --- | --- | --- |\n%.*s",
           title, text, SLICE_FMT(rows));
}

int main(void)
{
    struct arena *arena = arena_new();
    printf("# Metrics\n\n"
           "Prometheus text at `/metrics` of each PoP's admin port, and of control's port for "
           "control\n"
           "alone. Made from the tables in the code. Names are never changed; base units.\n");
    table_print(arena, "The gateway",
                "On the admin port. They live in shared memory: a gateway that restarts goes on "
                "counting.",
                &gateway_metrics);
    table_print(arena, "DNS", "On the admin port. They outlive the server's processes as well.",
                &dns_metrics);
    table_print(arena, "The PoP's agent", "On the admin port; what is now, read at each scrape.",
                &pop_metrics);
    table_print(arena, "Control", "On control's port.", &control_metrics);
    arena_free(arena);
    return 0;
}
