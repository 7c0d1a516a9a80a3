/* SPDX-License-Identifier: Apache-2.0 */
#include "http/trust.h"

#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "io/address.h"

struct trust {
    size_t count;
    struct ip_block blocks[TRUST_BLOCKS_MAX];
};

int trust_parse(struct slice text, struct trust **ret, struct err *err)
{
    auto_free struct trust *trust = mem_zalloc(sizeof *trust);
    do {
        struct slice part = slice_trim(slice_cut(&text, ','));
        if (trust->count == TRUST_BLOCKS_MAX)
            return err_set(err, ERR_BAD_INPUT, "at most %d blocks of addresses are taken",
                           TRUST_BLOCKS_MAX);
        int r = ip_block_parse(part, &trust->blocks[trust->count++], err);
        if (r < 0)
            return r;
    } while (text.data);
    *ret = take_ptr(trust);
    return 0;
}

struct trust *trust_of_environment(void)
{
    const char *text = getenv(TRUST_ENVIRONMENT);
    struct trust *trust = NULL;
    struct err err;
    if (text && *text && trust_parse(slice_of(text), &trust, &err) < 0)
        log_warn("http", "no proxy is trusted: $" TRUST_ENVIRONMENT " refused",
                 LOG_S("why", err.message));
    return trust;
}

void trust_free(struct trust *trust)
{
    free(trust);
}

bool trust_in_home(const char *listener, const char *home)
{
    struct slice path = slice_of(listener), folder = slice_of(home);
    if (!slice_starts(path, SLICE("unix:")))
        return false;
    path = (struct slice){ path.data + 5, path.size - 5 };
    return slice_starts(path, folder) && path.size > folder.size && path.data[folder.size] == '/' &&
           !strstr(path.data, "/../");
}

bool trust_has(const struct trust *trust, const struct ip *ip)
{
    for (size_t i = 0; trust && i < trust->count; i++)
        if (ip_block_has(&trust->blocks[i], ip))
            return true;
    return false;
}

bool trust_has_peer(const struct trust *trust, const struct address *peer)
{
    struct ip ip;
    return trust && address_ip(peer, &ip) && trust_has(trust, &ip);
}
