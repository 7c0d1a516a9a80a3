/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/request_id.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/http.h"

bool request_id_take(const struct http_request *request, char ret[static REQUEST_ID_BYTES])
{
    struct slice id = http_header_get(&request->headers, "X-Request-Id");
    if (id.size == 0 || id.size >= REQUEST_ID_BYTES)
        return false;
    for (size_t i = 0; i < id.size; i++) {
        char c = id.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '-'))
            return false;
    }
    memcpy(ret, id.data, id.size);
    ret[id.size] = '\0';
    return true;
}

void request_id_make(uint64_t random, char ret[static REQUEST_ID_BYTES])
{
    (void)snprintf(ret, REQUEST_ID_BYTES, "%016" PRIx64, random);
}
