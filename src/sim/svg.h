/* SPDX-License-Identifier: Apache-2.0 */
/* svg.h -- what pictures in SVG share. Only writes to `out`, whose errors the caller looks at. */
#pragma once

#include <stdio.h>

#include "base/slice.h"

/* Text between two tags, of any bytes: what XML does not take is left out. */
void svg_text(FILE *out, struct slice text);
