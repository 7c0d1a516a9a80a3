/* SPDX-License-Identifier: Apache-2.0 */
/* edge_picture.h -- a simulated world as pictures: SVG for a browser, characters for a terminal.
 * Only writes to `out`, whose errors the caller looks at. */
#pragma once

#include <stdio.h>

#include "sim/edge_all.h"

/* The world as cities, coloured by the round trip to the nearest PoP that may serve them, and PoPs,
 * as large as what they serve by our choice in the first scenario that was run; equirectangular. */
void edge_map_svg(FILE *out, const struct edge_all *all);
/* Of one scenario: which part of the requests has at most which network latency and wait, each way
 * a curve. */
void edge_curves_svg(FILE *out, const struct edge_all *all, enum edge_scenario scenario);
/* '.' and ':' where people live, 'o' PoPs, '@' the busiest tenth of them. */
void edge_map_text(FILE *out, const struct edge_all *all, int columns);
