/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A random nonce each time: of 96 bits, for the few secrets that people give, none comes twice. The
 * key has a name, so that the wrong one is told from changed bytes.
 */
#include "store/seal.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/arena.h"
#include "base/err.h"
#include "store/digest.h"
#include "sys/env_linux.h"

enum { NONCE_BYTES = 12, TAG_BYTES = 16, NAME_TEXT = 16 };

#define FORM "1:"

struct seal_key {
    unsigned char bytes[SEAL_KEY_BYTES];
    char name[NAME_TEXT + 1];
    const char *path; /* in the same arena */
};

/* ---- the key --------------------------------------------------------------------------------- */

static void name_set(struct arena *secret, struct seal_key *key)
{
    static const char label[] = "perigee seal key ";
    char digest[DIGEST_TEXT];
    char *text = arena_alloc(secret, sizeof label + SEAL_KEY_BYTES);
    memcpy(text, label, sizeof label);
    memcpy(text + sizeof label, key->bytes, SEAL_KEY_BYTES);
    (void)digest_of((struct slice){ text, sizeof label + SEAL_KEY_BYTES }, digest);
    memcpy(key->name, digest + 7, NAME_TEXT);
    key->name[NAME_TEXT] = '\0';
}

static void random_fill(void *bytes, size_t count)
{
    if (getrandom(bytes, count, 0) != (ssize_t)count) /* up to 256 bytes come whole */
        abort();
}

const struct seal_key *seal_key_of(const unsigned char *bytes, const char *path,
                                   struct arena *secret)
{
    struct seal_key *key = ARENA_NEW(secret, struct seal_key);
    assert(arena_secret(secret));
    memcpy(key->bytes, bytes, SEAL_KEY_BYTES);
    key->path = arena_string(secret, slice_of(path));
    name_set(secret, key);
    return key;
}

int seal_key_load(const char *path, bool make, struct arena *secret, const struct seal_key **ret,
                  struct err *err)
{
    struct slice bytes = {};
    int r = disk_read(path, SEAL_KEY_BYTES, secret, &bytes, err);
    if (r == ERR_NOT_FOUND && make) {
        unsigned char *drawn = arena_alloc(secret, SEAL_KEY_BYTES);
        random_fill(drawn, SEAL_KEY_BYTES);
        bytes = (struct slice){ (const char *)drawn, SEAL_KEY_BYTES };
        r = disk_replace(path, bytes, err); /* 0600 */
    }
    if (r == ERR_NOT_FOUND)
        return err_set(err, ERR_PRECONDITION,
                       "%s is not there, which opens it: put the one back that this state had "
                       "(`perigee backup --with-key` takes it along), or give the secret again",
                       path);
    if (r == 0 && bytes.size != SEAL_KEY_BYTES)
        r = err_set(err, ERR_PRECONDITION, "%s has %zu bytes, not %d", path, bytes.size,
                    (int)SEAL_KEY_BYTES);
    if (r < 0)
        return err_wrap(err, "the key of what is sealed");
    *ret = seal_key_of((const unsigned char *)bytes.data, path, secret);
    return 0;
}

/* ---- text ------------------------------------------------------------------------------------ */

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex_read(struct slice text, unsigned char *ret)
{
    for (size_t i = 0; i + 1 < text.size; i += 2) {
        int high = digit(text.data[i]), low = digit(text.data[i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret[i / 2] = (unsigned char)(high << 4 | low);
    }
    return text.size % 2 == 0;
}

static void hex_write(const unsigned char *bytes, size_t count, char *ret)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        ret[2 * i] = digits[bytes[i] >> 4];
        ret[2 * i + 1] = digits[bytes[i] & 15];
    }
}

/* ---- the cipher ------------------------------------------------------------------------------ */

static EVP_CIPHER_CTX *begin(const struct seal_key *key, const unsigned char *nonce,
                             struct slice purpose, bool sealing)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int used;
    if (!context ||
        EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, key->bytes, nonce, sealing) != 1 ||
        EVP_CipherUpdate(context, NULL, &used, (const unsigned char *)purpose.data,
                         (int)purpose.size) != 1)
        abort(); /* libcrypto without AES-GCM, or no memory */
    return context;
}

int seal_close(const struct seal_key *key, struct slice purpose, struct slice text,
               struct arena *arena, struct slice *ret, struct err *err)
{
    int used = 0;
    if (text.size > SEAL_TEXT_MAX)
        return err_set(err, ERR_TOO_LARGE, "a secret has at most %d KiB", SEAL_TEXT_MAX >> 10);
    size_t bytes = NONCE_BYTES + text.size + TAG_BYTES;
    unsigned char *all = arena_alloc(arena, bytes), *body = all + NONCE_BYTES;
    random_fill(all, NONCE_BYTES);
    EVP_CIPHER_CTX *context = begin(key, all, purpose, true);
    if ((text.size && EVP_CipherUpdate(context, body, &used, (const unsigned char *)text.data,
                                       (int)text.size) != 1) ||
        EVP_CipherFinal_ex(context, body + text.size, &used) != 1 ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, body + text.size) != 1)
        abort();
    EVP_CIPHER_CTX_free(context);
    char *sealed = arena_format(arena, FORM "%s:%*s", key->name, (int)(2 * bytes), "");
    hex_write(all, bytes, sealed + sizeof FORM - 1 + NAME_TEXT + 1);
    *ret = slice_of(sealed);
    return 0;
}

static int opened(const struct seal_key *key, struct slice purpose, const unsigned char *all,
                  size_t bytes, char *text, struct err *err)
{
    size_t count = bytes - NONCE_BYTES - TAG_BYTES;
    const unsigned char *body = all + NONCE_BYTES;
    EVP_CIPHER_CTX *context = begin(key, all, purpose, false);
    int used = 0;
    bool good = (!count ||
                 EVP_CipherUpdate(context, (unsigned char *)text, &used, body, (int)count) == 1) &&
                EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES,
                                    (void *)(body + count)) == 1 &&
                EVP_CipherFinal_ex(context, (unsigned char *)text + count, &used) == 1;
    EVP_CIPHER_CTX_free(context);
    return good ? 0
                : err_set(err, ERR_INTERNAL,
                          "what was sealed was changed, or is of something else: give the secret "
                          "again");
}

bool seal_key_same(const struct seal_key *a, const struct seal_key *b)
{
    return a && b && strcmp(a->name, b->name) == 0;
}

bool seal_has_key(const char *path, struct slice sealed)
{
    struct arena *secret = arena_new_secret();
    struct slice rest = sealed;
    const struct seal_key *key;
    (void)slice_cut(&rest, ':');
    bool has = seal_key_load(path, false, secret, &key, NULL) == 0 &&
               slice_is(slice_cut(&rest, ':'), key->name);
    arena_free(secret);
    return has;
}

int seal_open(const struct seal_key *key, struct slice purpose, struct slice sealed,
              struct arena *secret, struct slice *ret, struct err *err)
{
    struct slice rest = sealed, form = slice_cut(&rest, ':'), name = slice_cut(&rest, ':');
    size_t bytes = rest.size / 2;
    assert(arena_secret(secret));
    unsigned char *all = arena_alloc(secret, bytes + 1);
    if (!slice_is(form, "1") || bytes < NONCE_BYTES + TAG_BYTES ||
        bytes > SEAL_TEXT_MAX + NONCE_BYTES + TAG_BYTES || !hex_read(rest, all))
        return err_set(err, ERR_INTERNAL, "what was sealed is not of a form that is known here");
    if (!slice_is(name, key->name))
        return err_set(err, ERR_PRECONDITION,
                       "%s is another key than it was sealed with: put that one back, or give the "
                       "secret again",
                       key->path);
    char *text = arena_alloc(secret, bytes + 1);
    int r = opened(key, purpose, all, bytes, text, err);
    if (r == 0)
        *ret = (struct slice){ text, bytes - NONCE_BYTES - TAG_BYTES };
    return r;
}
