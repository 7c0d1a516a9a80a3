/* SPDX-License-Identifier: Apache-2.0 */
/* Where an upstream is: http://HOST[:PORT], and nothing behind it. Whether the host exists is asked
 * by the agent. */
#include <string.h>

#include "base/err.h"
#include "base/ip.h"
#include "spec/endpoint.h"

static bool name_right(struct slice host)
{
    size_t label = 0;

    if (host.size == 0 || host.size > 253)
        return false;
    for (size_t i = 0; i < host.size; i++) {
        char c = host.data[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '-';
        if (!word && (c != '.' || label == 0))
            return false;
        label = word ? label + 1 : 0;
        if (label > 63)
            return false;
    }
    return true;
}

static int port_read(struct slice text, uint16_t *ret, struct err *err)
{
    uint64_t port;

    if (!slice_u64(text, &port) || port == 0 || port > UINT16_MAX)
        return err_set(err, ERR_BAD_INPUT, "'%s' is no port, 1 to 65535", ERR_SLICE(text));
    *ret = (uint16_t)port;
    return 0;
}

/* "[::1]:80" and "host:80"; what is behind the host in *ret_rest. */
static int host_cut(struct slice authority, struct slice *ret_host, struct slice *ret_rest,
                    struct err *err)
{
    const char *end;
    struct ip ip;

    if (authority.size && authority.data[0] == '[') {
        end = memchr(authority.data, ']', authority.size);
        struct slice inside = { authority.data + 1, end ? (size_t)(end - authority.data - 1) : 0 };
        if (!end || !ip_parse(inside, &ip) || ip_is4(&ip))
            return err_set(err, ERR_BAD_INPUT, "'%s' is no IPv6 address in brackets",
                           ERR_SLICE(authority));
        *ret_host = inside;
        end++;
    } else {
        end = authority.size ? memchr(authority.data, ':', authority.size) : NULL;
        *ret_host =
            (struct slice){ authority.data, end ? (size_t)(end - authority.data) : authority.size };
        if (!name_right(*ret_host))
            return err_set(err, ERR_BAD_INPUT, "'%s' is no host: a name or an address",
                           ERR_SLICE(*ret_host));
        end = ret_host->data + ret_host->size;
    }
    *ret_rest = (struct slice){ end, (size_t)(authority.data + authority.size - end) };
    return 0;
}

int spec_upstream_parse(struct slice url, struct spec_upstream *ret, struct err *err)
{
    const struct slice scheme = SLICE("http://");
    struct spec_upstream upstream = { .port = 80 };
    struct slice rest = {};

    if (slice_starts(url, SLICE("https://")))
        return err_set(err, ERR_NOT_SUPPORTED, "'https://' is not acted upon yet; http:// is");
    if (!slice_starts(url, scheme))
        return err_set(err, ERR_BAD_INPUT, "'%s' is no URL like http://HOST:PORT", ERR_SLICE(url));
    upstream.authority = (struct slice){ url.data + scheme.size, url.size - scheme.size };
    if (slice_ends(upstream.authority, SLICE("/")))
        upstream.authority.size--;
    if (upstream.authority.size &&
        strcspn(upstream.authority.data, "/?#@") < upstream.authority.size)
        return err_set(err, ERR_BAD_INPUT,
                       "'%s' has more than a host and a port; paths are the client's to name",
                       ERR_SLICE(url));
    int r = host_cut(upstream.authority, &upstream.host, &rest, err);
    if (r == 0 && rest.size && rest.data[0] != ':')
        r = err_set(err, ERR_BAD_INPUT, "'%s' is no URL like http://HOST:PORT", ERR_SLICE(url));
    if (r == 0 && rest.size)
        r = port_read((struct slice){ rest.data + 1, rest.size - 1 }, &upstream.port, err);
    if (r == 0)
        *ret = upstream;
    return r;
}
