/* SPDX-License-Identifier: Apache-2.0 */
#define ERR_OWN /* the functions themselves, not what an analyzer is told */
#include "base/err.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/slice.h"

static const struct err_info infos[] = {
#define ERR_INFO(code, name, http, grpc, text) { name, http, grpc, text },
    ERR_TABLE(ERR_INFO)
#undef ERR_INFO
};

const struct err_info *err_info(int code)
{
    int index = -1 - code;
    if (index < 0 || index >= ERR_COUNT)
        index = ERR_INTERNAL_INDEX;
    return &infos[index];
}

int err_http(const struct err *err)
{
    return err->http ? err->http : err_info(err->code)->http;
}

int err_set(struct err *err, enum err_code code, const char *format, ...)
{
    if (err) {
        va_list arguments;
        va_start(arguments, format);
        err->code = code;
        err->http = err->system = 0;
        vsnprintf(err->message, sizeof err->message, format, arguments);
        va_end(arguments);
    }
    return code;
}

/* HTTP's own refusals carry the nearest name (docs/errors.md). */
static int code_of_http(int http)
{
    switch (http) {
    case 414:
    case 431:
        return ERR_TOO_LARGE;
    case 408:
        return ERR_DEADLINE;
    default:
        break;
    }
    for (int i = 0; i < ERR_COUNT; i++)
        if (infos[i].http == http)
            return -1 - i;
    return http >= 500 && http != 505 ? ERR_INTERNAL : ERR_BAD_INPUT;
}

int err_set_http(struct err *err, int http, const char *format, ...)
{
    int code = code_of_http(http);
    if (err) {
        va_list arguments;
        va_start(arguments, format);
        err->code = code;
        err->http = http;
        err->system = 0;
        vsnprintf(err->message, sizeof err->message, format, arguments);
        va_end(arguments);
    }
    return code;
}

int err_wrap(struct err *err, const char *format, ...)
{
    if (!err)
        return ERR_INTERNAL;
    char inner[sizeof err->message];
    memcpy(inner, err->message, sizeof inner);

    va_list arguments;
    va_start(arguments, format);
    int used = vsnprintf(err->message, sizeof err->message, format, arguments);
    va_end(arguments);
    if (used >= 0 && (size_t)used < sizeof err->message)
        snprintf(err->message + used, sizeof err->message - (size_t)used, ": %s", inner);
    return err->code;
}

const char *err_text(char buffer[static ERR_TEXT_BYTES], const char *data, size_t size)
{
    enum { SHOWN_BYTES = 64 };
    size_t used = 0, i = 0;
    while (i < size && i + 3 < SHOWN_BYTES) { /* a sequence of four still fits */
        size_t length = utf8_length((struct slice){ data + i, size - i });
        unsigned char c = (unsigned char)data[i];
        if (length == 0 || c < 0x20 || c == 0x7f ||
            (c == 0xc2 && (unsigned char)data[i + 1] < 0xa0)) {
            used += (size_t)snprintf(buffer + used, ERR_TEXT_BYTES - used, "\\x%02x", c);
            i++;
            continue;
        }
        memcpy(buffer + used, data + i, length);
        used += length;
        i += length;
    }
    while (i < size && i < SHOWN_BYTES && data[i] >= ' ' && data[i] < 0x7f)
        buffer[used++] = data[i++];
    if (i < size) {
        memcpy(buffer + used, "...", 3);
        used += 3;
    }
    buffer[used] = '\0';
    return buffer;
}
