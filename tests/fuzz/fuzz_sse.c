/* SPDX-License-Identifier: Apache-2.0 */
/* The same events, whatever the pieces they come in. */
#include <assert.h>

#include "proto/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct heard {
    size_t count, bytes;
};

static bool on_event(struct slice kind, struct slice id, struct slice text, void *data)
{
    struct heard *heard = data;
    heard->count++;
    heard->bytes += kind.size + id.size + text.size;
    return true;
}

static struct heard hear(struct slice stream, size_t piece)
{
    struct heard heard = {};
    struct sse sse = { .on_event = on_event, .data = &heard };
    for (size_t at = 0; at < stream.size; at += piece) {
        size_t size = stream.size - at < piece ? stream.size - at : piece;
        (void)sse_feed(&sse, (struct slice){ stream.data + at, size });
    }
    sse_deinit(&sse);
    return heard;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice stream = { (const char *)data, size };
    struct heard whole = hear(stream, size ? size : 1), bytewise = hear(stream, 1);
    assert(whole.count == bytewise.count && whole.bytes == bytewise.bytes);
    return 0;
}
