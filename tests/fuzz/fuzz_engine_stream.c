/* SPDX-License-Identifier: Apache-2.0 */
/* Streams of an engine say the same, whatever the pieces they come in. */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "replica/engine/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct heard {
    size_t count, bytes;
    int code, end;
    char error[504];
};

static void on_line(struct slice line, void *data)
{
    struct heard *heard = data;
    heard->count++;
    heard->bytes += line.size;
}

static void on_text(struct slice text, bool is_error, void *data)
{
    (void)is_error;
    ((struct heard *)data)->bytes += text.size;
}

static struct heard hear_lines(struct slice stream, size_t piece)
{
    struct heard heard = {};
    struct engine_lines lines = { .on_line = on_line, .data = &heard };
    struct err err = {};
    for (size_t at = 0; at < stream.size && heard.code == 0; at += piece) {
        size_t size = stream.size - at < piece ? stream.size - at : piece;
        heard.code = engine_lines_feed(&lines, (struct slice){ stream.data + at, size }, &err);
    }
    heard.end = engine_lines_end(&lines, &err);
    memcpy(heard.error, lines.error, sizeof heard.error);
    engine_lines_deinit(&lines);
    return heard;
}

static struct heard hear_frames(struct slice stream, size_t piece)
{
    struct heard heard = {};
    struct engine_frames frames = { on_text, &heard };
    for (size_t at = 0; at < stream.size && heard.code == 0; at += piece) {
        size_t size = stream.size - at < piece ? stream.size - at : piece;
        heard.code = engine_frames_feed(&frames, (struct slice){ stream.data + at, size }, NULL);
    }
    return heard;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice stream = { (const char *)data, size };
    if (size > ENGINE_LINE_MAX)
        return 0;
    struct heard whole = hear_lines(stream, size ? size : 1), bytewise = hear_lines(stream, 1);
    assert(whole.count == bytewise.count && whole.bytes == bytewise.bytes);
    assert(whole.end == bytewise.end && strcmp(whole.error, bytewise.error) == 0);
    whole = hear_frames(stream, size ? size : 1);
    bytewise = hear_frames(stream, 1);
    assert(whole.bytes == bytewise.bytes && whole.code == bytewise.code);
    return 0;
}
