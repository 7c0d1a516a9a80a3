/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "sys/netns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte is the number of descriptors that came along. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct netns_message message;
    struct err err;
    if (size < 1 || size - 1 > sizeof message)
        return 0;
    memset(&message, 0xff, sizeof message);
    memcpy(&message, data + 1, size - 1);
    if (netns_message_check(&message, size - 1, data[0], &err) < 0) {
        assert(err.code == ERR_BAD_INPUT && err.message[0]);
        return 0;
    }
    assert(size - 1 == sizeof message && strlen(message.text) < sizeof message.text);
    assert(message.code <= 0 && err_info(message.code));
    assert(data[0] <= 1);
    assert(message.type != NETNS_SHOW || data[0] == 1);
    assert(message.type != NETNS_WANT || (message.count == 1 && data[0] == 0));
    return 0;
}
