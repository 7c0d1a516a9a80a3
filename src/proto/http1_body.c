/* SPDX-License-Identifier: Apache-2.0 */
/* Chunked framing in, and heads out. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "proto/http1.h"

enum { SIZE_DIGITS_MAX = 16, EXTENSION_BYTES_MAX = 1024 };

enum state { SIZE, EXTENSION, SIZE_LF, DATA_CR, DATA_LF, TRAILER, TRAILER_LF, END };

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int bad(struct err *err, const char *what)
{
    return err_set_http(err, 400, "malformed chunked body: %s", what);
}

static int size_feed(struct http1_chunks *chunks, char c, struct err *err)
{
    int value = hex_value(c);
    if (value >= 0) {
        if (++chunks->digits > SIZE_DIGITS_MAX)
            return bad(err, "a chunk size that is too long");
        chunks->size = chunks->size << 4 | (unsigned)value;
        return 0;
    }
    if (!chunks->digits)
        return bad(err, "a chunk without a size");
    if (chunks->size > INT64_MAX)
        return bad(err, "a chunk size that is too large");
    if (c == '\r')
        chunks->state = SIZE_LF;
    else if (c == ';')
        chunks->state = EXTENSION;
    else
        return bad(err, "a chunk size that is no hexadecimal number");
    return 0;
}

static int extension_feed(struct http1_chunks *chunks, char c, struct err *err)
{
    if (c == '\r')
        chunks->state = SIZE_LF;
    else if (!http_value_valid((struct slice){ &c, 1 }))
        return bad(err, "a control character in a chunk extension");
    else if (++chunks->line_bytes > EXTENSION_BYTES_MAX)
        return bad(err, "a chunk extension that is too long");
    return 0;
}

static int trailer_text_add(struct http1_chunks *chunks, char c, struct err *err)
{
    if (chunks->text_bytes >= chunks->trailer_bytes_max)
        return err_set_http(err, 431, "the trailers are too large");
    if (chunks->text_bytes == chunks->text_room) {
        size_t room = chunks->text_room ? chunks->text_room * 2 : 256;
        char *text = arena_alloc(chunks->arena, room);
        if (chunks->text_bytes)
            memcpy(text, chunks->text, chunks->text_bytes);
        chunks->text = text;
        chunks->text_room = room;
    }
    chunks->text[chunks->text_bytes++] = c;
    return 0;
}

/* What must not come behind a body, where whoever routed the request has not seen it. */
static bool trailer_dropped(struct slice name)
{
    static const char *const names[] = {
        "content-length", "transfer-encoding", "host",         "connection", "authorization",
        "x-api-key",      "content-encoding",  "content-type", "trailer",    "te",
        "expect",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (slice_equal_nocase(name, slice_of(names[i])))
            return true;
    return false;
}

static int trailers_take(struct http1_chunks *chunks, struct err *err)
{
    struct slice rest = { chunks->text, chunks->text_bytes };
    size_t lines = 0;
    for (size_t i = 0; i < rest.size; i++)
        lines += rest.data[i] == '\n';
    if (lines > chunks->trailers_max)
        return err_set_http(err, 431, "there are too many trailers");
    struct http_header *items = ARENA_ARRAY(chunks->arena, struct http_header, lines);
    while (rest.size) {
        struct slice value = slice_cut(&rest, '\n');
        bool colon = memchr(value.data, ':', value.size);
        struct slice name = slice_cut(&value, ':');
        if (!colon || !http_name_valid(name) || !http_value_valid(value))
            return bad(err, "a trailer that is no header line");
        if (!trailer_dropped(name))
            items[chunks->trailers.count++] = (struct http_header){ name, slice_trim(value) };
    }
    chunks->trailers.items = items;
    return 0;
}

/* Lines are gathered with '\n' alone at their ends; an empty one ends the body. */
static int trailer_feed(struct http1_chunks *chunks, char c, struct err *err)
{
    if (c == '\r') {
        chunks->state = TRAILER_LF;
        return 0;
    }
    if (c == '\n')
        return bad(err, "a line feed without a carriage return");
    chunks->line_bytes++;
    return trailer_text_add(chunks, c, err);
}

static int line_feed(struct http1_chunks *chunks, char c, struct err *err)
{
    if (c != '\n')
        return bad(err, "a carriage return without a line feed");
    switch ((enum state)chunks->state) {
    case SIZE_LF:
        chunks->left = chunks->size;
        chunks->state = chunks->left ? DATA_CR : TRAILER;
        chunks->line_bytes = 0;
        return chunks->left ? HTTP1_CHUNK_DATA : HTTP1_CHUNK_MORE;
    case DATA_LF:
        chunks->state = SIZE;
        chunks->digits = chunks->line_bytes = 0;
        chunks->size = 0;
        return HTTP1_CHUNK_MORE;
    case TRAILER_LF:
        break;
    default:
        assert(false);
    }
    if (chunks->line_bytes) {
        chunks->state = TRAILER;
        chunks->line_bytes = 0;
        return trailer_text_add(chunks, '\n', err);
    }
    chunks->state = END;
    int r = trailers_take(chunks, err);
    return r < 0 ? r : HTTP1_CHUNK_END;
}

int http1_chunks_next(struct http1_chunks *chunks, const char *data, size_t size, size_t *ret_used,
                      struct err *err)
{
    assert(chunks->left == 0);
    for (size_t i = 0; i < size; i++) {
        int r = HTTP1_CHUNK_MORE;
        switch ((enum state)chunks->state) {
        case SIZE:
            r = size_feed(chunks, data[i], err);
            break;
        case EXTENSION:
            r = extension_feed(chunks, data[i], err);
            break;
        case DATA_CR:
            chunks->state = DATA_LF;
            if (data[i] != '\r')
                r = bad(err, "more data than the chunk's size");
            break;
        case TRAILER:
            r = trailer_feed(chunks, data[i], err);
            break;
        case SIZE_LF:
        case DATA_LF:
        case TRAILER_LF:
            r = line_feed(chunks, data[i], err);
            break;
        case END:
            assert(false);
        }
        if (r != HTTP1_CHUNK_MORE) {
            *ret_used = i + 1;
            return r;
        }
    }
    *ret_used = size;
    return HTTP1_CHUNK_MORE;
}

size_t http1_chunk_prefix(char buffer[static HTTP1_CHUNK_PREFIX_BYTES], uint64_t bytes)
{
    static const char digits[] = "0123456789abcdef";
    size_t size = 1;
    for (uint64_t rest = bytes >> 4; rest; rest >>= 4)
        size++;
    for (size_t i = size; i-- > 0; bytes >>= 4)
        buffer[i] = digits[bytes & 15];
    buffer[size] = '\r';
    buffer[size + 1] = '\n';
    return size + 2;
}

/* ---- heads out ---------------------------------------------------------------------------- */

static char *put(char *to, struct slice text)
{
    if (text.size)
        memcpy(to, text.data, text.size);
    return to + text.size;
}

static char *put_value(char *to, struct slice value)
{
    if (slice_plain(value) == value.size)
        return put(to, value);
    for (size_t i = 0; i < value.size; i++) {
        unsigned char c = (unsigned char)value.data[i];
        *to++ = (c < 0x20 && c != '\t') || c == 0x7f ? '?' : (char)c;
    }
    return to;
}

struct slice http1_write_head(struct arena *arena, struct slice first_line,
                              struct slice fixed_lines, const struct http_header *headers,
                              size_t count)
{
    size_t size = first_line.size + fixed_lines.size + 2;
    for (size_t i = 0; i < count; i++)
        size += headers[i].name.size + headers[i].value.size + 4;
    char *text = arena_alloc(arena, size), *at = put(put(text, first_line), fixed_lines);
    for (size_t i = 0; i < count; i++) {
        assert(headers[i].name.size > 0);
        at = put(put(at, headers[i].name), SLICE(": "));
        at = put(put_value(at, headers[i].value), SLICE("\r\n"));
    }
    at = put(at, SLICE("\r\n"));
    return (struct slice){ text, (size_t)(at - text) };
}

struct slice http1_status_line(struct arena *arena, int status)
{
    if (status == 200)
        return SLICE("HTTP/1.1 200 OK\r\n");
    return slice_of(arena_format(arena, "HTTP/1.1 %d %s\r\n", status, http_reason(status)));
}
