/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent keeps on disk (pop/keep.h) tells the next one whether the machine was booted. */
#include "pop/keep.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/err.h"
#include "base/log.h"
#include "sim/world.h"
#include "../unit/pop_effects.h"

static const struct pop_effects effects = {
    .replica_look = on_replica,
    .replica_drain = on_replica,
    .replica_unwanted = on_number,
    .revision_gone = on_number,
    .model_fetch = on_fetch,
    .publish = on_change,
    .report = on_change,
    .save = on_change,
};

static void agent_begins(struct world *world, struct pop *pop, struct keep *keep, int64_t era)
{
    *pop = (struct pop){};
    *keep = (struct keep){};
    pop_init(pop, world_env(world), 7, &effects, NULL);
    pop->hearing = true; /* nothing is started */
    pop->era = era;
    keep_init(keep, pop, "/home");
    keep_load(keep);
}

static void agent_ends(struct pop *pop, struct keep *keep)
{
    keep_deinit(keep);
    pop_deinit(pop);
}

static void test_era(void **)
{
    static const struct {
        int64_t era;
        bool saves, again;
    } rows[] = {
        { 5, false, false }, /* there is no file */
        { 5, true, false },  { 5, false, true },  { 5, true, true },
        { 6, false, false }, /* booted */
        { 6, false, false }, /* and dead before anything was on disk */
        { 6, true, false },  { 6, false, true },  { 0, true, false },
        { 0, true, false },  { 6, false, false }, /* not known of which it was */
    };
    struct world *world = world_new(1);
    world_folder_make(world, "/home");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pop pop;
        struct keep keep;
        agent_begins(world, &pop, &keep, rows[i].era);
        if (pop.again != rows[i].again)
            fail_msg("row %zu", i);
        if (rows[i].saves)
            keep_desired(&keep);
        world_run(world, ENV_S);
        agent_ends(&pop, &keep);
    }
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_era),
    };
    if (!getenv("PERIGEE_SIM_LOG"))
        log_level_set(LOG_ERROR + 1);
    return cmocka_run_group_tests_name("sim_keep", tests, NULL, NULL);
}
