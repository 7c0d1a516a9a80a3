/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/dns_cookie.h"

#include <assert.h>
#include <netinet/in.h>
#include <string.h>

#include "proto/dns_codec.h"

static_assert(DNS_COOKIE_SECRET_BYTES == KNOT_EDNS_COOKIE_SECRET_SIZE);
static_assert((int)DNS_COOKIE_CLIENT_BYTES == (int)KNOT_EDNS_COOKIE_CLNT_SIZE);
static_assert((int)DNS_COOKIE_SERVER_BYTES_MAX == (int)KNOT_EDNS_COOKIE_SRVR_MAX_SIZE);

static struct sockaddr_storage address_of(const struct ip *ip)
{
    struct sockaddr_storage storage = {};
    if (ip_is4(ip)) {
        struct sockaddr_in *four = (struct sockaddr_in *)&storage;
        four->sin_family = AF_INET;
        memcpy(&four->sin_addr, ip->bytes + 12, 4);
    } else {
        struct sockaddr_in6 *six = (struct sockaddr_in6 *)&storage;
        six->sin6_family = AF_INET6;
        memcpy(&six->sin6_addr, ip->bytes, 16);
    }
    return storage;
}

static knot_edns_cookie_params_t parameters(const uint8_t *secret,
                                            const struct sockaddr_storage *client, uint32_t now_s)
{
    knot_edns_cookie_params_t parameters = {
        .version = KNOT_EDNS_COOKIE_VERSION,
        .timestamp = now_s,
        .lifetime_before = DNS_COOKIE_PAST_S,
        .lifetime_after = DNS_COOKIE_FUTURE_S,
        .client_addr = client,
    };
    memcpy(parameters.secret, secret, sizeof parameters.secret);
    return parameters;
}

static knot_edns_cookie_t half(const uint8_t *bytes, uint16_t size)
{
    knot_edns_cookie_t cookie = { .len = size };
    memcpy(cookie.data, bytes, size);
    return cookie;
}

void dns_cookie_make(const struct dns_codec *codec,
                     const uint8_t secret[static DNS_COOKIE_SECRET_BYTES],
                     const struct dns_cookie *cookie, const struct ip *client, uint32_t now_s,
                     uint8_t ret_server[static DNS_COOKIE_BYTES])
{
    struct sockaddr_storage address = address_of(client);
    knot_edns_cookie_params_t how = parameters(secret, &address, now_s);
    knot_edns_cookie_t theirs = half(cookie->client, sizeof cookie->client), ours = {};
    int r = codec->knot->knot_edns_cookie_server_generate(&ours, &theirs, &how);
    assert(r == KNOT_EOK && ours.len == DNS_COOKIE_BYTES);
    memcpy(ret_server, ours.data, DNS_COOKIE_BYTES);
}

bool dns_cookie_right(const struct dns_codec *codec,
                      const uint8_t secret[static DNS_COOKIE_SECRET_BYTES],
                      const struct dns_cookie *cookie, const struct ip *client, uint32_t now_s)
{
    struct sockaddr_storage address = address_of(client);
    knot_edns_cookie_params_t how = parameters(secret, &address, now_s);
    if (!cookie->present || cookie->server_bytes != DNS_COOKIE_BYTES)
        return false;
    knot_edns_cookie_t theirs = half(cookie->client, sizeof cookie->client);
    knot_edns_cookie_t ours = half(cookie->server, cookie->server_bytes);
    return codec->knot->knot_edns_cookie_server_check(&ours, &theirs, &how) == KNOT_EOK;
}
