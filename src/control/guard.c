/* SPDX-License-Identifier: Apache-2.0 */
#include "control/guard.h"

#include <string.h>

#include "base/err.h"
#include "proto/http.h"

static bool ip_ours(const struct guard *guard, const struct address *host)
{
    if (address_loopback(host))
        return true;
    for (size_t i = 0; i < guard->address_count; i++) {
        const struct address *own = &guard->addresses[i];
        static const uint8_t any[16];
        size_t bytes = own->kind == ADDRESS_IP4 ? 4 : 16;
        if (own->kind == ADDRESS_UNIX || own->kind == ADDRESS_NONE)
            continue;
        /* An address in digits is no name that somebody could point at us. */
        if (memcmp(own->ip, any, bytes) == 0 ||
            (own->kind == host->kind && memcmp(own->ip, host->ip, bytes) == 0))
            return true;
    }
    return false;
}

int guard_host(const struct guard *guard, const struct http_request *head, struct err *err)
{
    struct address address;
    struct slice host = head->host;
    if (slice_ends(host, SLICE(".")))
        host.size--;
    if (slice_equal_nocase(host, SLICE("localhost")) ||
        slice_equal_nocase(host, SLICE("api.localhost")))
        return 0;
    if (guard->api_host[0] && slice_equal_nocase(host, slice_of(guard->api_host)))
        return 0;
    if (guard->zone[0] && host.size > 4 &&
        slice_equal_nocase((struct slice){ host.data, 4 }, SLICE("api.")) &&
        slice_equal_nocase((struct slice){ host.data + 4, host.size - 4 }, slice_of(guard->zone)))
        return 0;
    if (address_parse_ip(host, &address) && ip_ours(guard, &address))
        return 0;
    return err_set(err, ERR_MISDIRECTED,
                   "host '%s' is none of control's: use localhost, api.%s, or say --api-host",
                   ERR_SLICE(host), guard->zone);
}

int guard_origin(const struct http_request *head, struct err *err)
{
    struct slice origin = http_header_get(&head->headers, "Origin");
    struct slice site = http_header_get(&head->headers, "Sec-Fetch-Site");
    bool reads = head->method == HTTP_GET || head->method == HTTP_HEAD;
    if (!http_header_find(&head->headers, "Origin")) {
        if (reads || site.size == 0 || slice_is(site, "same-origin") || slice_is(site, "none"))
            return 0;
        return err_set(err, ERR_FORBIDDEN, "a page of another site may not do this");
    }
    /* Ours alone: scheme://host:port as this call's own. */
    struct slice rest = origin;
    if (slice_starts(rest, SLICE("http://")))
        rest = (struct slice){ rest.data + 7, rest.size - 7 };
    else if (slice_starts(rest, SLICE("https://")))
        rest = (struct slice){ rest.data + 8, rest.size - 8 };
    else
        rest = (struct slice){};
    if (rest.size && slice_equal_nocase(rest, head->authority))
        return 0;
    return err_set(err, ERR_FORBIDDEN, "origin '%s' is foreign: web pages may not call control",
                   ERR_SLICE(origin));
}

int guard_type(const struct http_request *head, const char *types, struct err *err)
{
    struct slice value = http_header_get(&head->headers, "Content-Type");
    struct slice type = slice_trim(slice_cut(&value, ';'));
    struct slice rest = slice_of(types);
    while (rest.data)
        if (slice_equal_nocase(type, slice_cut(&rest, ',')) && type.size)
            return 0;
    return err_set_http(err, 415, "Content-Type is '%s', wanted is %s", ERR_SLICE(type), types);
}
