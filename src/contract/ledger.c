/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The digest is SHA-256's first half: no two different records have the same, so that control can
 * tell by it whether a PoP's ledger is still the one that it counted from. Against somebody who
 * wants to forge one it does nothing: that is the bearer's business.
 */
#include "contract/ledger.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are copied as they are");

enum { LONGEST_MS = 366 * 24 * 3600, TRIES_MAX = 4096 };
#define LENGTH_MS_MAX (UINT64_C(1000) * LONGEST_MS * 10)
#define TIME_MS_MAX (INT64_C(1) << 53)

struct head {
    uint32_t magic, bytes;
    uint16_t type, version;
    uint32_t reserved;
    uint64_t first, last;
    struct ledger_id id;
    struct ledger_check check;
};
static_assert(sizeof(struct head) == 64, "as in docs/usage.md");

struct file_body {
    char pop[64];
    struct ledger_check counted;
    uint64_t era;
    uint32_t replica_count, counter_count;
};
static_assert(sizeof(struct file_body) == 96, "as in docs/usage.md");

struct window_body {
    int64_t begin_ms;
    uint64_t length_ms;
    uint64_t era;
    uint32_t offered, row_count, replica_count, counter_count;
};
static_assert(sizeof(struct window_body) == 40, "as in docs/usage.md");
static_assert(sizeof(struct ledger_row) == 120, "as in docs/usage.md");
static_assert(sizeof(struct ledger_replica_mark) == 56, "as in docs/usage.md");
static_assert(sizeof(struct ledger_counter_mark) == 40, "as in docs/usage.md");

static const size_t check_at = offsetof(struct head, check);

static void digest(const char *record, size_t bytes, struct ledger_check *ret)
{
    static const struct ledger_check none;
    unsigned char whole[EVP_MAX_MD_SIZE];
    size_t behind = check_at + sizeof none;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) &&
                EVP_DigestUpdate(context, record, check_at) &&
                EVP_DigestUpdate(context, &none, sizeof none) &&
                EVP_DigestUpdate(context, record + behind, bytes - behind) &&
                EVP_DigestFinal_ex(context, whole, NULL);
    EVP_MD_CTX_free(context);
    if (!good)
        abort(); /* libcrypto without SHA-256, or no memory */
    memcpy(ret, whole, sizeof *ret);
}

bool ledger_check_equal(const struct ledger_check *a, const struct ledger_check *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

void ledger_read(struct ledger_reader *reader, struct slice bytes, bool strict)
{
    *reader = (struct ledger_reader){ .bytes = bytes, .strict = strict };
}

int ledger_row_order(const void *a, const void *b)
{
    const struct ledger_row *x = a, *y = b;
    if (x->endpoint != y->endpoint)
        return x->endpoint < y->endpoint ? -1 : 1;
    return (x->revision > y->revision) - (x->revision < y->revision);
}

static bool rows_right(const struct ledger_row *rows, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!rows[i].endpoint || rows[i].endpoint >> (64 - LEDGER_REVISION_BITS) ||
            !rows[i].revision || rows[i].revision >> LEDGER_REVISION_BITS ||
            !figures_right(&rows[i].figures) ||
            (i && ledger_row_order(&rows[i - 1], &rows[i]) >= 0))
            return false;
    return true;
}

/* An array of the record: copied, as nothing says that it lies well. */
static void *take(struct arena *arena, const char **at, size_t count, size_t bytes)
{
    void *items = arena_calloc(arena, count ? count : 1, bytes);
    memcpy(items, *at, count * bytes);
    *at += count * bytes;
    return items;
}

static void take_marks(struct arena *arena, const char **at, struct ledger_marks *marks)
{
    marks->replicas = take(arena, at, marks->replica_count, sizeof *marks->replicas);
    marks->counters = take(arena, at, marks->counter_count, sizeof *marks->counters);
}

static bool marks_fit(uint64_t room, uint32_t rows, uint32_t replicas, uint32_t counters)
{
    return rows <= LEDGER_ROWS_MAX && replicas <= LEDGER_MARKS_MAX &&
           counters <= LEDGER_MARKS_MAX &&
           room == (uint64_t)rows * sizeof(struct ledger_row) +
                       (uint64_t)replicas * sizeof(struct ledger_replica_mark) +
                       (uint64_t)counters * sizeof(struct ledger_counter_mark);
}

static const char *read_file(struct arena *arena, const char *at, size_t room,
                             struct ledger_record *ret)
{
    struct file_body body;
    if (room < sizeof body)
        return "it is too short";
    memcpy(&body, at, sizeof body);
    at += sizeof body;
    if (!memchr(body.pop, '\0', sizeof body.pop) ||
        !marks_fit(room - sizeof body, 0, body.replica_count, body.counter_count))
        return "its parts are not as long as it is";
    memcpy(ret->pop, body.pop, sizeof ret->pop);
    ret->counted = body.counted;
    ret->marks = (struct ledger_marks){ .era = body.era,
                                        .replica_count = body.replica_count,
                                        .counter_count = body.counter_count };
    take_marks(arena, &at, &ret->marks);
    return NULL;
}

static const char *read_window(struct arena *arena, const char *at, size_t room,
                               struct ledger_record *ret)
{
    struct window_body body;
    if (room < sizeof body)
        return "it is too short";
    memcpy(&body, at, sizeof body);
    at += sizeof body;
    if (!marks_fit(room - sizeof body, body.row_count, body.replica_count, body.counter_count))
        return "its parts are not as long as it is";
    if (body.begin_ms < 0 || body.begin_ms > TIME_MS_MAX || body.length_ms > LENGTH_MS_MAX ||
        body.offered > 1 || ret->first == 0)
        return "its time or its numbers cannot be";
    ret->begin_ms = body.begin_ms;
    ret->length_ms = body.length_ms;
    ret->offered = body.offered;
    ret->row_count = body.row_count;
    ret->rows = take(arena, &at, body.row_count, sizeof *ret->rows);
    ret->marks = (struct ledger_marks){ .era = body.era,
                                        .replica_count = body.replica_count,
                                        .counter_count = body.counter_count };
    take_marks(arena, &at, &ret->marks);
    return rows_right(ret->rows, ret->row_count) ? NULL : "its figures contradict each other";
}

static const char no_record[] = "there is no record";

/* What begins at `at`; NULL: a whole record, in *ret. Else what is wrong with it. */
static const char *record_read(struct slice bytes, size_t at, struct arena *arena,
                               struct ledger_record *ret, bool *ret_newer)
{
    struct head head;
    struct ledger_check check;
    size_t left = bytes.size - at;
    *ret_newer = false;
    if (left < sizeof head)
        return "it is cut off";
    memcpy(&head, bytes.data + at, sizeof head);
    if (head.magic != LEDGER_MAGIC)
        return no_record;
    if (head.bytes < sizeof head || head.bytes % 8 || head.bytes > LEDGER_RECORD_BYTES_MAX)
        return "its length cannot be";
    if (head.bytes > left)
        return "it is cut off";
    digest(bytes.data + at, head.bytes, &check);
    if (!ledger_check_equal(&check, &head.check))
        return "its bytes were changed";
    *ret_newer = head.version != LEDGER_VERSION;
    if (*ret_newer)
        return "it is of another version of Perigee";
    if (head.first > head.last || head.last == UINT64_MAX)
        return "its numbers cannot be";
    *ret = (struct ledger_record){ .type = head.type,
                                   .id = head.id,
                                   .first = head.first,
                                   .last = head.last,
                                   .check = check,
                                   .raw = { bytes.data + at, head.bytes } };
    const char *body = bytes.data + at + sizeof head;
    size_t room = head.bytes - sizeof head;
    if (head.type == LEDGER_FILE)
        return read_file(arena, body, room, ret);
    if (head.type == LEDGER_WINDOW)
        return read_window(arena, body, room, ret);
    return head.type == LEDGER_OFFER && room == 0 ? NULL : "its kind is not known";
}

static void damage(struct ledger_reader *reader, size_t bytes, bool begins)
{
    if (reader->damages == 0)
        reader->damaged_at = reader->at;
    reader->damages += begins;
    reader->damaged += bytes;
    reader->at += bytes;
}

int ledger_next(struct ledger_reader *reader, struct arena *arena, struct ledger_record *ret,
                struct err *err)
{
    bool newer, begins = true;
    while (reader->at < reader->bytes.size) {
        const char *wrong = record_read(reader->bytes, reader->at, arena, ret, &newer);
        if (!wrong) {
            reader->at += ret->raw.size;
            reader->whole_end = reader->at;
            return 1;
        }
        if (newer)
            return err_set(err, ERR_NOT_SUPPORTED, "the ledger's record at byte %zu: %s",
                           reader->at, wrong);
        if (reader->strict)
            return err_set(err, ERR_BAD_INPUT, "the ledger's record at byte %zu: %s", reader->at,
                           wrong);
        /* The next one begins at a multiple of 8 from here, if any does. Each try may cost a
         * digest of much: there are only so many. */
        size_t left = reader->bytes.size - reader->at;
        reader->tries += wrong != no_record;
        damage(reader, left < 8 || reader->tries > TRIES_MAX ? left : 8, begins);
        begins = false;
    }
    return 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

static char *put(char *at, const void *bytes, size_t size)
{
    if (size)
        memcpy(at, bytes, size);
    return at + size;
}

static char *put_marks(char *at, const struct ledger_marks *marks)
{
    at = put(at, marks->replicas, marks->replica_count * sizeof *marks->replicas);
    return put(at, marks->counters, marks->counter_count * sizeof *marks->counters);
}

struct slice ledger_write(struct arena *arena, struct ledger_record *record)
{
    const struct ledger_marks *marks = &record->marks;
    size_t body = record->type == LEDGER_FILE     ? sizeof(struct file_body)
                  : record->type == LEDGER_WINDOW ? sizeof(struct window_body)
                                                  : 0;
    size_t bytes = sizeof(struct head) + body;
    if (record->type == LEDGER_WINDOW)
        bytes += record->row_count * sizeof *record->rows;
    if (body)
        bytes += marks->replica_count * sizeof *marks->replicas +
                 marks->counter_count * sizeof *marks->counters;
    struct head head = { .magic = LEDGER_MAGIC,
                         .bytes = (uint32_t)bytes,
                         .type = (uint16_t)record->type,
                         .version = LEDGER_VERSION,
                         .first = record->first,
                         .last = record->last,
                         .id = record->id };
    char *data = arena_alloc(arena, bytes), *at = put(data, &head, sizeof head);
    if (record->type == LEDGER_FILE) {
        struct file_body file = { .counted = record->counted,
                                  .era = marks->era,
                                  .replica_count = marks->replica_count,
                                  .counter_count = marks->counter_count };
        memcpy(file.pop, record->pop, sizeof file.pop);
        at = put(at, &file, sizeof file);
        at = put_marks(at, marks);
    } else if (record->type == LEDGER_WINDOW) {
        struct window_body window = { .begin_ms = record->begin_ms,
                                      .length_ms = record->length_ms,
                                      .era = marks->era,
                                      .offered = record->offered,
                                      .row_count = record->row_count,
                                      .replica_count = marks->replica_count,
                                      .counter_count = marks->counter_count };
        at = put(at, &window, sizeof window);
        at = put(at, record->rows, record->row_count * sizeof *record->rows);
        at = put_marks(at, marks);
    }
    digest(data, bytes, &record->check);
    memcpy(data + check_at, &record->check, sizeof record->check);
    record->raw = (struct slice){ data, bytes };
    return record->raw;
}

/* ---- sums ------------------------------------------------------------------------------------ */

bool ledger_merge(struct arena *arena, const struct ledger_record *windows, size_t count,
                  struct ledger_record *ret)
{
    size_t room = 0;
    uint32_t used = 0;
    int64_t end_ms = 0;
    struct ledger_record merged = windows[count - 1];
    for (size_t i = 0; i < count; i++) {
        int64_t end = windows[i].begin_ms + (int64_t)windows[i].length_ms;
        room += windows[i].row_count;
        end_ms = end > end_ms ? end : end_ms;
        if (windows[i].begin_ms < merged.begin_ms) /* clocks are set back */
            merged.begin_ms = windows[i].begin_ms;
    }
    struct ledger_row *rows = ARENA_ARRAY(arena, struct ledger_row, room + 1);
    for (size_t i = 0, at = 0; i < count; at += windows[i++].row_count)
        if (windows[i].row_count)
            memcpy(rows + at, windows[i].rows, windows[i].row_count * sizeof *rows);
    qsort(rows, room, sizeof *rows, ledger_row_order);
    for (size_t i = 0; i < room; i++) {
        if (used && ledger_row_order(&rows[used - 1], &rows[i]) == 0)
            figures_add(&rows[used - 1].figures, &rows[i].figures);
        else if (used == LEDGER_ROWS_MAX)
            return false;
        else
            rows[used++] = rows[i];
    }
    uint64_t length = (uint64_t)(end_ms - merged.begin_ms);
    merged.first = windows[0].first;
    merged.length_ms = length < LENGTH_MS_MAX ? length : LENGTH_MS_MAX;
    merged.rows = rows;
    merged.row_count = used;
    *ret = merged;
    return true;
}

void ledger_hex(const uint8_t bytes[static 16], char ret[static 33])
{
    for (int i = 0; i < 32; i++)
        ret[i] = "0123456789abcdef"[bytes[i / 2] >> (i % 2 ? 0 : 4) & 15];
    ret[32] = '\0';
}

bool ledger_unhex(struct slice text, uint8_t ret[static 16])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[16] = {};
    if (text.size != 32)
        return false;
    for (int i = 0; i < 32; i++) {
        const char *digit = memchr(digits, text.data[i], 16);
        if (!digit)
            return false;
        bytes[i / 2] = (uint8_t)(bytes[i / 2] << 4 | (digit - digits));
    }
    memcpy(ret, bytes, sizeof bytes);
    return true;
}
