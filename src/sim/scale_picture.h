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

/* Above, requests that arrive in a second; below, replicas of each way. Each curve is a path of one
 * step a column, of the most within the seconds that fall on it, and says its name (<title>). */
void scale_svg(FILE *out, const char *title, const struct scale_line *lines, size_t count);
