/* SPDX-License-Identifier: Apache-2.0 */
/* schemas.h -- the shapes of /openapi.json, by name. Pure; any thread. */
#pragma once

#include <stddef.h>

struct schema {
    const char *name, *json;
};
extern const struct schema control_schemas[];
extern const size_t control_schema_count;
