/* SPDX-License-Identifier: Apache-2.0 */
#include "store/digest.h"

#include <assert.h>
#include <openssl/evp.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"

struct digest {
    EVP_MD_CTX *context;
    enum digest_kind kind;
};

const char *const digest_kind_names[DIGEST_KINDS] = { "sha256", "sha512" };
static const size_t hex_bytes[DIGEST_KINDS] = { DIGEST_HEX, DIGEST_HEX_MAX };

struct digest *digest_new_of(enum digest_kind kind)
{
    struct digest *digest = mem_zalloc(sizeof *digest);
    const EVP_MD *md = kind == DIGEST_SHA512 ? EVP_sha512() : EVP_sha256();
    digest->kind = kind;
    digest->context = EVP_MD_CTX_new();
    if (!digest->context || EVP_DigestInit_ex(digest->context, md, NULL) != 1)
        mem_abort(sizeof *digest); /* the default provider has both: memory is what is missing */
    return digest;
}

struct digest *digest_new(void)
{
    return digest_new_of(DIGEST_SHA256);
}

void digest_free(struct digest *digest)
{
    if (digest)
        EVP_MD_CTX_free(digest->context);
    free(digest);
}

enum digest_kind digest_kind_of(const struct digest *digest)
{
    return digest->kind;
}

void digest_add(struct digest *digest, const void *data, size_t bytes)
{
    int r = EVP_DigestUpdate(digest->context, data, bytes);
    assert(r == 1);
    (void)r;
}

const char *digest_end_of(struct digest *digest, char ret_text[static DIGEST_TEXT_MAX])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    int r = EVP_DigestFinal_ex(digest->context, raw, &size);
    assert(r == 1 && size * 2 == hex_bytes[digest->kind]);
    (void)r;
    memcpy(ret_text, digest_kind_names[digest->kind], 6);
    ret_text[6] = ':';
    for (unsigned i = 0; i < size; i++) {
        ret_text[7 + 2 * i] = digits[raw[i] >> 4];
        ret_text[7 + 2 * i + 1] = digits[raw[i] & 15];
    }
    ret_text[7 + 2 * size] = '\0';
    return ret_text;
}

const char *digest_end(struct digest *digest, char ret_text[static DIGEST_TEXT])
{
    char text[DIGEST_TEXT_MAX];
    assert(digest->kind == DIGEST_SHA256);
    memcpy(ret_text, digest_end_of(digest, text), DIGEST_TEXT);
    return ret_text;
}

const char *digest_of(struct slice bytes, char ret_text[static DIGEST_TEXT])
{
    struct digest *digest = digest_new();
    digest_add(digest, bytes.data, bytes.size);
    digest_end(digest, ret_text);
    digest_free(digest);
    return ret_text;
}

struct slice digest_slice(struct arena *arena, struct slice bytes)
{
    char text[DIGEST_TEXT];
    return bytes.size ? arena_copy(arena, slice_of(digest_of(bytes, text))) : (struct slice){};
}

static bool is_kind(struct slice text, enum digest_kind kind)
{
    bool good = text.size == 7 + hex_bytes[kind] && text.data[6] == ':' &&
                memcmp(text.data, digest_kind_names[kind], 6) == 0;
    for (size_t i = 7; good && i < text.size; i++)
        good = (text.data[i] >= '0' && text.data[i] <= '9') ||
               (text.data[i] >= 'a' && text.data[i] <= 'f');
    return good;
}

int digest_check(struct slice text, struct err *err)
{
    if (is_kind(text, DIGEST_SHA256))
        return 0;
    return err_set(err, ERR_BAD_INPUT,
                   "'%s' is no digest: wanted is sha256: and 64 small hexadecimal digits",
                   ERR_SLICE(text));
}

int digest_check_any(struct slice text, enum digest_kind *ret_kind, struct err *err)
{
    for (enum digest_kind kind = 0; kind < DIGEST_KINDS; kind++)
        if (is_kind(text, kind)) {
            *ret_kind = kind;
            return 0;
        }
    return err_set(err, ERR_BAD_INPUT,
                   "'%s' is no digest: wanted is sha256: and 64 small hexadecimal digits, or "
                   "sha512: and 128",
                   ERR_SLICE(text));
}
