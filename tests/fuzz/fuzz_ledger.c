/* SPDX-License-Identifier: Apache-2.0 */
/* Behind an r: bytes as they are. Behind an f: digests are put right first, so that what is beyond
 * them is reached. What is read is within its bounds, and reads the same once it is written. */
#include <openssl/evp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "contract/ledger.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 64, CHECK = 48 };

static void put_right(unsigned char *bytes, size_t size)
{
    unsigned char whole[EVP_MAX_MD_SIZE];
    for (size_t at = 0; size - at >= HEAD;) {
        uint32_t length;
        memcpy(&length, bytes + at + 4, sizeof length);
        if (length < HEAD || length > size - at)
            return;
        memset(bytes + at + CHECK, 0, 16);
        if (!EVP_Digest(bytes + at, length, whole, NULL, EVP_sha256(), NULL))
            abort();
        memcpy(bytes + at + CHECK, whole, 16);
        at += length;
    }
}

static void same_again(struct arena *arena, struct ledger_record record)
{
    struct ledger_reader reader;
    struct ledger_record again;
    if (record.type == LEDGER_OFFER)
        return;
    struct slice written = ledger_write(arena, &record);
    ledger_read(&reader, written, true);
    if (ledger_next(&reader, arena, &again, NULL) != 1 || again.row_count != record.row_count ||
        again.last != record.last ||
        (record.row_count &&
         memcmp(again.rows, record.rows, record.row_count * sizeof *record.rows) != 0))
        abort();
}

static void read_all(struct slice bytes, bool strict)
{
    struct arena *arena = arena_new();
    struct ledger_reader reader;
    struct ledger_record record, windows[8], merged;
    size_t count = 0;
    ledger_read(&reader, bytes, strict);
    while (ledger_next(&reader, arena, &record, NULL) == 1) {
        for (uint32_t i = 0; i < record.row_count; i++)
            if (!figures_right(&record.rows[i].figures))
                abort();
        same_again(arena, record);
        /* In order alone, as pop/ledger.c has seen to before it merges. */
        if (record.type == LEDGER_WINDOW && count < 8 &&
            (!count || record.first > windows[count - 1].last))
            windows[count++] = record;
    }
    if (reader.at > bytes.size || reader.damaged > bytes.size || reader.whole_end > bytes.size)
        abort();
    if (count && ledger_merge(arena, windows, count, &merged))
        same_again(arena, merged);
    arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char *copy = malloc(size); /* its end is the sanitizer's */
    memcpy(copy, data + 1, size - 1);
    if (data[0] == 'f')
        put_right((unsigned char *)copy, size - 1);
    read_all((struct slice){ copy, size - 1 }, false);
    read_all((struct slice){ copy, size - 1 }, true);
    free(copy);
    return 0;
}
