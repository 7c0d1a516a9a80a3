/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint_rows.h -- keys of a spec, good and bad, for test_endpoint.c. */
#pragma once

#include <stddef.h>

/* A key and its value in YAML behind a good name, and a model where it tells nothing else that
 * runs; a part of the message, or NULL when it is good. */
struct endpoint_row {
    const char *yaml;
    int code;
    const char *message;
};

extern const struct endpoint_row endpoint_rows[];
extern const size_t endpoint_row_count;
