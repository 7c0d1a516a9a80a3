/* SPDX-License-Identifier: Apache-2.0 */
/* simulate_failing.h -- which simulated PoPs fail: by chance, the largest, or some by name. */
#pragma once

#include <stdint.h>

struct cli;
struct edge_options;
struct edge_world;
struct err;
struct json_writer;
struct sites;

/* By --failing and --failures, of which `failures` holds what the command line says, or would: into
 * `options`. Names are in the arena. */
[[nodiscard]] int simulate_failing(struct cli *cli, const struct sites *sites, uint32_t failures,
                                   struct edge_options *options, struct err *err);
/* Those that failed, by name: lines of a terminal, or an array. */
void simulate_failed_print(struct cli *cli, const struct edge_world *world);
void simulate_failed_json(struct cli *cli, const struct edge_world *world, struct json_writer *w);
