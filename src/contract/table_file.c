/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MAC keeps out a file that somebody else put there: the key is in the home, mode 0600, and the
 * supervisor hands both to the gateway. It is compared in constant time, before anything is read.
 */
#include "contract/table.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/err.h"

int table_mac(const unsigned char key[static TABLE_KEY_BYTES], struct slice bytes,
              unsigned char ret_mac[static TABLE_MAC_BYTES], struct err *err)
{
    unsigned size = TABLE_MAC_BYTES;

    if (!HMAC(EVP_sha256(), key, TABLE_KEY_BYTES, (const unsigned char *)bytes.data, bytes.size,
              ret_mac, &size) ||
        size != TABLE_MAC_BYTES)
        return err_set(err, ERR_INTERNAL, "table file: HMAC-SHA-256 is not to be had");
    return 0;
}

int table_open_file(const unsigned char key[static TABLE_KEY_BYTES], struct slice file,
                    struct slice *ret_bytes, struct err *err)
{
    unsigned char mac[TABLE_MAC_BYTES];

    if (file.size <= TABLE_MAC_BYTES || file.size > TABLE_BYTES_MAX + TABLE_MAC_BYTES)
        return err_set(err, ERR_BAD_INPUT, "table file: %zu bytes are none", file.size);
    struct slice bytes = { file.data, file.size - TABLE_MAC_BYTES };
    if (table_mac(key, bytes, mac, err) < 0)
        return ERR_INTERNAL;
    if (CRYPTO_memcmp(mac, bytes.data + bytes.size, sizeof mac) != 0)
        return err_set(err, ERR_BAD_INPUT,
                       "table file: the MAC is wrong; it was changed or is "
                       "another home's");
    int r = table_check(bytes, err);
    if (r < 0)
        return r;
    *ret_bytes = bytes;
    return 0;
}
