/* SPDX-License-Identifier: Apache-2.0 */
#include "contract/messages.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte is the number of descriptors that came along. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static union message message;
    if (size < 1 || size - 1 > sizeof message)
        return 0;
    memset(&message, 0xff, sizeof message);
    memcpy(&message, data + 1, size - 1);
    struct err err;
    if (message_check(&message, size - 1, data[0], &err) == 0) {
        assert(message_size(message.head.type) == size - 1);
        if (message.head.type == MESSAGE_START)
            assert(strlen(message.as_MESSAGE_START.zone) < sizeof message.as_MESSAGE_START.zone);
    } else {
        assert(err.code == ERR_BAD_INPUT && err.message[0]);
    }
    return 0;
}
