/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MAC keeps out a file that somebody else put there: the key is in the home, mode 0600, and the
 * supervisor hands both to the gateway. It is compared in constant time, before anything is read.
 */
#include "contract/table.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"

enum { KEY_FILE_BYTES_MAX = 4096 };

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

static int read_whole(int fd, size_t bytes_max, char **ret_data, size_t *ret_bytes, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || st.st_size < 0 || (size_t)st.st_size > bytes_max)
        return err_set(err, ERR_BAD_INPUT, "a file of odd size");
    size_t size = (size_t)st.st_size, done = 0;
    auto_free char *data = mem_alloc(size + 1);
    while (done < size) {
        ssize_t n = pread(fd, data + done, size - done, (off_t)done);
        if (n <= 0)
            return err_set(err, ERR_BAD_INPUT, "a file that cannot be read whole");
        done += (size_t)n;
    }
    *ret_data = take_ptr(data);
    *ret_bytes = done;
    return 0;
}

int table_read_file(int table_fd, int key_fd, char **ret_data, struct slice *ret_bytes,
                    struct err *err)
{
    auto_free char *key = NULL, *file = NULL;
    size_t key_bytes, file_bytes;

    int r = read_whole(key_fd, KEY_FILE_BYTES_MAX, &key, &key_bytes, err);
    if (r == 0 && key_bytes < TABLE_KEY_BYTES)
        r = err_set(err, ERR_BAD_INPUT, "the key is too short");
    if (r == 0)
        r = read_whole(table_fd, TABLE_BYTES_MAX + TABLE_MAC_BYTES, &file, &file_bytes, err);
    if (r == 0)
        r = table_open_file((const unsigned char *)key, (struct slice){ file, file_bytes },
                            ret_bytes, err);
    if (r == 0)
        *ret_data = take_ptr(file);
    return r;
}
