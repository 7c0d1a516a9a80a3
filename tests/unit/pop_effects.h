/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop_effects.h -- what a world does of which its tests do not look at: nothing. Included once a
 * test program.
 */
#pragma once

#include "pop/state.h"

[[maybe_unused]] static void on_replica(struct pop_replica *, void *)
{
}

[[maybe_unused]] static void on_number(uint64_t, void *)
{
}

[[maybe_unused]] static void on_fetch(struct pop_revision *, void *)
{
}

[[maybe_unused]] static void on_change(struct pop *, void *)
{
}

[[maybe_unused]] static void on_any_death(struct pop_endpoint *, const struct pop_death *, void *)
{
}
