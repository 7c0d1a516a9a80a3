/* SPDX-License-Identifier: Apache-2.0 */
/* simulate_law.h -- where simulated requests may be processed: an endpoint's spec, or the law that
 * stands for one. */
#pragma once

struct cli;
struct err;
struct residency;
struct sites;

/* By --spec, --sets and --anywhere. *ret is in the arena, NULL: anywhere. Sites that the spec's
 * `regions` leave out are taken off `sites`; none left is an error. */
[[nodiscard]] int simulate_law(struct cli *cli, struct sites *sites, const struct residency **ret,
                               struct err *err);
