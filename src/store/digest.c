/* SPDX-License-Identifier: Apache-2.0 */
#include "store/digest.h"

#include <assert.h>
#include <openssl/evp.h>

#include "base/auto.h"
#include "base/err.h"

struct digest {
    EVP_MD_CTX *context;
};

struct digest *digest_new(void)
{
    struct digest *digest = mem_zalloc(sizeof *digest);
    digest->context = EVP_MD_CTX_new();
    if (!digest->context || EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1)
        mem_abort(sizeof *digest); /* the default provider has SHA-256: memory is what is missing */
    return digest;
}

void digest_free(struct digest *digest)
{
    if (digest)
        EVP_MD_CTX_free(digest->context);
    free(digest);
}

void digest_add(struct digest *digest, const void *data, size_t bytes)
{
    int r = EVP_DigestUpdate(digest->context, data, bytes);
    assert(r == 1);
    (void)r;
}

const char *digest_end(struct digest *digest, char ret_text[static DIGEST_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    int r = EVP_DigestFinal_ex(digest->context, raw, &size);
    assert(r == 1 && size * 2 == DIGEST_HEX);
    (void)r;
    memcpy(ret_text, "sha256:", 7);
    for (unsigned i = 0; i < size; i++) {
        ret_text[7 + 2 * i] = digits[raw[i] >> 4];
        ret_text[7 + 2 * i + 1] = digits[raw[i] & 15];
    }
    ret_text[DIGEST_TEXT - 1] = '\0';
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

int digest_check(struct slice text, struct err *err)
{
    bool good = text.size == DIGEST_TEXT - 1 && slice_starts(text, SLICE("sha256:"));
    for (size_t i = 7; good && i < text.size; i++)
        good = (text.data[i] >= '0' && text.data[i] <= '9') ||
               (text.data[i] >= 'a' && text.data[i] <= 'f');
    if (good)
        return 0;
    return err_set(err, ERR_BAD_INPUT,
                   "'%s' is no digest: wanted is sha256: and 64 small hexadecimal digits",
                   ERR_SLICE(text));
}
