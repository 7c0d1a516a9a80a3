/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/codec_gzip.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

#include "base/auto.h"
#include "base/err.h"
#include "proto/text.h"

#define WINDOW_BITS 15
#define GZIP_BITS (WINDOW_BITS + 16) /* zlib's way to say "with gzip's header" */

const char *codec_name(enum codec codec)
{
    static const char *const names[] = { "identity", "gzip", "deflate" };

    return names[codec];
}

static bool codec_find(struct slice name, enum codec *ret)
{
    if (slice_equal_nocase(name, SLICE("gzip")) || slice_equal_nocase(name, SLICE("x-gzip")))
        *ret = CODEC_GZIP;
    else if (slice_equal_nocase(name, SLICE("deflate")))
        *ret = CODEC_DEFLATE;
    else if (slice_equal_nocase(name, SLICE("identity")))
        *ret = CODEC_IDENTITY;
    else
        return false;
    return true;
}

int codec_parse(struct slice value, enum codec *ret, struct err *err)
{
    value = slice_trim(value);
    if (value.size == 0)
        value = SLICE("identity");
    if (!codec_find(value, ret))
        return err_set_http(err, 415,
                            "Content-Encoding '%s' is not known here; gzip and deflate are",
                            ERR_SLICE(value));
    return 0;
}

/* --- Accept-Encoding -------------------------------------------------------------------------- */

/* "q=0.5" in thousandths; what is malformed counts as not wanted. */
static int weight(struct slice parameters)
{
    int value = 1000;

    while (parameters.data) {
        struct slice one = slice_trim(slice_cut(&parameters, ';'));
        int scale = 1000;

        if (one.size < 3 || (one.data[0] | 0x20) != 'q' || one.data[1] != '=')
            continue;
        value = 0;
        for (size_t i = 2; i < one.size && scale > 0; i++) {
            if (one.data[i] == '.' && i == 3)
                continue;
            if (one.data[i] < '0' || one.data[i] > '9')
                return 0;
            value += (one.data[i] - '0') * scale;
            scale /= 10;
        }
    }
    return value > 1000 ? 1000 : value;
}

enum codec codec_accepted(struct slice accept_encoding)
{
    int weights[] = { -1, -1, -1 }, others = -1;
    enum codec best = CODEC_IDENTITY;

    while (accept_encoding.data) {
        struct slice item = slice_cut(&accept_encoding, ',');
        struct slice name = slice_trim(slice_cut(&item, ';'));
        enum codec codec;

        if (slice_is(name, "*"))
            others = weight(item);
        else if (codec_find(name, &codec))
            weights[codec] = weight(item);
    }
    for (int codec = CODEC_IDENTITY; codec <= CODEC_DEFLATE; codec++)
        if (weights[codec] < 0)
            weights[codec] = others;
    /* Nobody who names a coding wants the plain form more, unless they say so. */
    if (weights[CODEC_IDENTITY] < 0)
        weights[CODEC_IDENTITY] = 0;
    if (weights[CODEC_DEFLATE] > 0 && weights[CODEC_DEFLATE] >= weights[best])
        best = CODEC_DEFLATE;
    if (weights[CODEC_GZIP] > 0 && weights[CODEC_GZIP] >= weights[best])
        best = CODEC_GZIP;
    return best;
}

/* --- reading ---------------------------------------------------------------------------------- */

struct inflater {
    z_stream stream;
    enum codec codec;
    uint64_t bytes, bytes_max;
    unsigned char head[2]; /* deflate: what decides between zlib's form and the raw one */
    int head_count, head_left;
    bool open; /* the stream is initialised */
    bool ended;
};

static void stream_open(struct inflater *inflater, int bits)
{
    if (inflateInit2(&inflater->stream, bits) != Z_OK)
        mem_abort(sizeof inflater->stream);
    inflater->open = true;
}

struct inflater *inflater_new(enum codec codec, uint64_t bytes_max)
{
    struct inflater *inflater = mem_zalloc(sizeof *inflater);

    assert(codec != CODEC_IDENTITY);
    inflater->codec = codec;
    inflater->bytes_max = bytes_max;
    if (codec == CODEC_GZIP)
        stream_open(inflater, GZIP_BITS);
    return inflater;
}

void inflater_free(struct inflater *inflater)
{
    if (!inflater)
        return;
    if (inflater->open)
        (void)inflateEnd(&inflater->stream);
    free(inflater);
}

/* Collects two bytes; false while they are not there. zlib's header is a multiple of 31. */
static bool sniff(struct inflater *inflater, struct slice *in)
{
    bool zlib;

    while (inflater->head_count < 2) {
        if (in->size == 0)
            return false;
        inflater->head[inflater->head_count++] = (unsigned char)*in->data;
        in->data++;
        in->size--;
    }
    zlib =
        (inflater->head[0] & 0x0f) == 8 && (inflater->head[0] << 8 | inflater->head[1]) % 31 == 0;
    stream_open(inflater, zlib ? WINDOW_BITS : -WINDOW_BITS);
    inflater->head_left = 2;
    return true;
}

static int step(struct inflater *inflater, struct err *err)
{
    z_stream *stream = &inflater->stream;
    int r = inflate(stream, Z_NO_FLUSH);

    if (r == Z_STREAM_END) {
        inflater->ended = true;
        return 0;
    }
    if (r == Z_MEM_ERROR)
        mem_abort(sizeof *stream);
    if (r != Z_OK && r != Z_BUF_ERROR)
        return err_set(err, ERR_BAD_INPUT, "the body is not %s: %s", codec_name(inflater->codec),
                       stream->msg ? stream->msg : "it is damaged");
    return 0;
}

/* Behind a gzip member another may follow; behind anything else nothing. */
static int next_member(struct inflater *inflater, struct err *err)
{
    if (inflater->codec != CODEC_GZIP)
        return err_set(err, ERR_BAD_INPUT, "bytes follow the end of the compressed body");
    if (inflateReset(&inflater->stream) != Z_OK)
        mem_abort(sizeof inflater->stream);
    inflater->ended = false;
    return 0;
}

int64_t inflater_run(struct inflater *inflater, struct slice *in, void *out, size_t room,
                     struct err *err)
{
    z_stream *stream = &inflater->stream;
    size_t written = 0;

    if (!inflater->open && !sniff(inflater, in))
        return 0;
    while (written < room) {
        bool from_head = inflater->head_left > 0;
        size_t left = room - written, taken, made;
        int r;

        if (inflater->ended) {
            if (in->size == 0 && !from_head)
                break;
            r = next_member(inflater, err);
            if (r < 0)
                return r;
        }
        if (from_head) {
            stream->next_in = inflater->head + 2 - inflater->head_left;
            stream->avail_in = (unsigned)inflater->head_left;
        } else {
            stream->next_in = (unsigned char *)in->data;
            stream->avail_in = in->size < UINT_MAX ? (unsigned)in->size : UINT_MAX;
        }
        stream->next_out = (unsigned char *)out + written;
        stream->avail_out = left < UINT_MAX ? (unsigned)left : UINT_MAX;
        taken = stream->avail_in;
        made = stream->avail_out;
        r = step(inflater, err);
        if (r < 0)
            return r;
        taken -= stream->avail_in;
        made -= stream->avail_out;
        if (from_head) {
            inflater->head_left -= (int)taken;
        } else if (taken > 0) {
            in->data += taken;
            in->size -= taken;
        }
        written += made;
        inflater->bytes += made;
        if (inflater->bytes > inflater->bytes_max)
            return err_set(err, ERR_TOO_LARGE,
                           "the body is above %" PRIu64 " bytes after inflation",
                           inflater->bytes_max);
        if (taken == 0 && made == 0 && !inflater->ended)
            break;
    }
    return (int64_t)written;
}

int inflater_finish(const struct inflater *inflater, struct err *err)
{
    if (!inflater->ended)
        return err_set(err, ERR_BAD_INPUT, "the %s body ends too early",
                       codec_name(inflater->codec));
    return 0;
}

/* --- writing ---------------------------------------------------------------------------------- */

struct deflater {
    z_stream stream;
};

struct deflater *deflater_new(enum codec codec, int level)
{
    struct deflater *deflater = mem_zalloc(sizeof *deflater);

    assert(codec != CODEC_IDENTITY);
    if (deflateInit2(&deflater->stream, level, Z_DEFLATED,
                     codec == CODEC_GZIP ? GZIP_BITS : WINDOW_BITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        mem_abort(sizeof deflater->stream);
    return deflater;
}

void deflater_free(struct deflater *deflater)
{
    if (!deflater)
        return;
    (void)deflateEnd(&deflater->stream);
    free(deflater);
}

static int deflate_room(struct deflater *deflater, struct text *out, int flush)
{
    enum { ROOM = 16 * 1024 };
    z_stream *stream = &deflater->stream;
    int r;

    stream->next_out = (unsigned char *)text_room(out, ROOM);
    stream->avail_out = ROOM;
    r = deflate(stream, flush);
    assert(r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR);
    out->size += ROOM - stream->avail_out;
    return r;
}

void deflater_push(struct deflater *deflater, struct slice in, struct text *out)
{
    z_stream *stream = &deflater->stream;

    while (in.size > 0) {
        unsigned given = in.size < UINT_MAX ? (unsigned)in.size : UINT_MAX;

        stream->next_in = (unsigned char *)in.data;
        stream->avail_in = given;
        do
            (void)deflate_room(deflater, out, Z_NO_FLUSH);
        while (stream->avail_in > 0);
        in.data += given;
        in.size -= given;
    }
}

void deflater_finish(struct deflater *deflater, struct text *out)
{
    while (deflate_room(deflater, out, Z_FINISH) != Z_STREAM_END)
        continue;
}
