/* SPDX-License-Identifier: Apache-2.0 */
/* A table's file as a cold boot reads it: with another's MAC it is never taken; with ours it is
 * what its bytes are. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "contract/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned char key[TABLE_KEY_BYTES] = { 1 };
    char *copy = malloc(size + TABLE_MAC_BYTES);
    struct slice bytes = { copy, size }, got;

    if (size)
        memcpy(copy, data, size);
    if (table_open_file(key, bytes, &got, NULL) == 0)
        abort(); /* nobody guesses a MAC */
    if (table_mac(key, bytes, (unsigned char *)copy + size, NULL) < 0)
        abort();
    bool taken =
        table_open_file(key, (struct slice){ copy, size + TABLE_MAC_BYTES }, &got, NULL) == 0;
    if (taken != (table_check(bytes, NULL) == 0) || (taken && got.size != size))
        abort();
    free(copy);
    return 0;
}
