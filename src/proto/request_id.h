/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request_id.h -- X-Request-Id: a client's own where it is good, else one that is made. Pure; any
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct http_request;

enum { REQUEST_ID_BYTES = 65 }; /* with the end */

/* False: the request has none that is good (1 to 64 letters, digits, '.', '_', '-'). */
bool request_id_take(const struct http_request *request, char ret[static REQUEST_ID_BYTES]);
void request_id_make(uint64_t random, char ret[static REQUEST_ID_BYTES]);
