/* SPDX-License-Identifier: Apache-2.0 */
/* scale_picture.h -- traffic against replicas as SVG: how ways to decide went through one trace.
 * Only writes to `out`, whose errors the caller looks at. */
#pragma once

#include <stdio.h>

#include "sim/scale_run.h"

struct scale_line {
    const char *name, *color;
    const struct scale_result *result;
};

/* Above, requests that arrive in a second and those that are there; below, replicas of each way. */
void scale_svg(FILE *out, const char *title, const struct scale_line *lines, size_t count);
