/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever a server sends is read inside its bounds; a question that is written is no answer. */
#include "proto/dns_ask.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct ip_block subnet = { .ip.bytes = { 0x20, 1, 0xd, 0xb8 }, .bits = 48 };
    struct dns_ask ask = { .id = 0x1234, .type = DNS_A, .with_subnet = true, .subnet = subnet };
    struct err err;
    struct dns_answer answer;
    uint8_t own[DNS_ASK_BYTES_MAX];

    assert(dns_name_parse(SLICE("digits.perigee.test"), &ask.name, &err) == 0);
    size_t written = dns_ask_write(&ask, own);
    assert(written <= sizeof own);
    assert(dns_answer_read(&ask, own, written, &answer, &err) == ERR_NOT_FOUND);
    if (dns_answer_read(&ask, data, size, &answer, &err) < 0)
        return 0;
    assert(answer.ip_count <= DNS_ASK_IPS_MAX && answer.text_count <= DNS_ASK_TEXTS_MAX);
    for (size_t i = 0; i < answer.text_count; i++)
        assert(answer.texts[i].data >= (const char *)data &&
               answer.texts[i].data + answer.texts[i].size <= (const char *)data + size);
    if (answer.ede != DNS_EDE_NONE && answer.ede_text.size)
        assert(answer.ede_text.data + answer.ede_text.size <= (const char *)data + size);
    return 0;
}
