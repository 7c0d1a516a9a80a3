/* SPDX-License-Identifier: Apache-2.0 */
#include "io/address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

#include "base/err.h"

static bool ip4_mapped(const uint8_t ip[16])
{
    static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };
    return memcmp(ip, prefix, sizeof prefix) == 0;
}

static void ip6_set(struct address *address, const uint8_t ip[16])
{
    if (ip4_mapped(ip)) {
        address->kind = ADDRESS_IP4;
        memcpy(address->ip, ip + 12, 4);
    } else {
        address->kind = ADDRESS_IP6;
        memcpy(address->ip, ip, 16);
    }
}

bool address_parse_ip(struct slice text, struct address *ret)
{
    char buffer[INET6_ADDRSTRLEN];
    uint8_t ip[16];
    if (text.size >= 2 && text.data[0] == '[' && text.data[text.size - 1] == ']') {
        text = (struct slice){ text.data + 1, text.size - 2 };
        if (!memchr(text.data, ':', text.size))
            return false;
    }
    if (text.size == 0 || text.size >= sizeof buffer || memchr(text.data, 0, text.size))
        return false;
    memcpy(buffer, text.data, text.size);
    buffer[text.size] = 0;
    struct address address = {};
    if (inet_pton(AF_INET, buffer, ip) == 1) {
        address.kind = ADDRESS_IP4;
        memcpy(address.ip, ip, 4);
    } else if (inet_pton(AF_INET6, buffer, ip) == 1) {
        ip6_set(&address, ip);
    } else {
        return false;
    }
    *ret = address;
    return true;
}

static int unix_parse(struct slice path, struct address *ret, struct err *err)
{
    struct address address = { .kind = ADDRESS_UNIX };
    if (path.size == 0 || path.size >= sizeof address.path || memchr(path.data, 0, path.size))
        return err_set(err, ERR_BAD_INPUT,
                       "the path of a unix socket has 1 to %zu bytes, '%s' has %zu",
                       sizeof address.path - 1, ERR_SLICE(path), path.size);
    memcpy(address.path, path.data, path.size);
    *ret = address;
    return 0;
}

int address_parse(struct slice text, struct address *ret, struct err *err)
{
    if (slice_starts(text, SLICE("unix:")))
        return unix_parse((struct slice){ text.data + 5, text.size - 5 }, ret, err);
    struct address address;
    uint64_t port;
    const char *colon = text.size ? memrchr(text.data, ':', text.size) : NULL;
    if (!colon)
        return err_set(err, ERR_BAD_INPUT,
                       "'%s' is no address: 127.0.0.1:PORT, [::1]:PORT or unix:PATH",
                       ERR_SLICE(text));
    struct slice host = { text.data, (size_t)(colon - text.data) };
    struct slice number = { colon + 1, text.size - host.size - 1 };
    /* An IPv6 address needs its brackets, or its last group would be the port. */
    bool bare6 = host.size && host.data[0] != '[' && memchr(host.data, ':', host.size);
    if (bare6 || !address_parse_ip(host, &address))
        return err_set(err, ERR_BAD_INPUT, "'%s' is no IP address (IPv6 in brackets: [::1]:PORT)",
                       ERR_SLICE(host));
    if (!slice_u64(number, &port) || port > UINT16_MAX)
        return err_set(err, ERR_BAD_INPUT, "'%s' is no port (0 to 65535)", ERR_SLICE(number));
    address.port = (uint16_t)port;
    *ret = address;
    return 0;
}

void address_from(const struct sockaddr_storage *sockaddr, socklen_t size, struct address *ret)
{
    *ret = (struct address){};
    if (sockaddr->ss_family == AF_INET && size >= sizeof(struct sockaddr_in)) {
        const struct sockaddr_in *in = (const void *)sockaddr;
        ret->kind = ADDRESS_IP4;
        ret->port = ntohs(in->sin_port);
        memcpy(ret->ip, &in->sin_addr, 4);
    } else if (sockaddr->ss_family == AF_INET6 && size >= sizeof(struct sockaddr_in6)) {
        const struct sockaddr_in6 *in6 = (const void *)sockaddr;
        ip6_set(ret, in6->sin6_addr.s6_addr);
        ret->port = ntohs(in6->sin6_port);
    } else if (sockaddr->ss_family == AF_UNIX) {
        const struct sockaddr_un *un = (const void *)sockaddr;
        size_t start = offsetof(struct sockaddr_un, sun_path);
        size_t bytes = size > start ? size - start : 0;
        ret->kind = ADDRESS_UNIX;
        /* An abstract name begins with NUL and has no path. */
        if (bytes && un->sun_path[0])
            memcpy(ret->path, un->sun_path,
                   bytes < sizeof ret->path - 1 ? bytes : sizeof ret->path - 1);
    }
}

bool address_ip(const struct address *address, struct ip *ret)
{
    if (address->kind == ADDRESS_IP4)
        *ret = ip_from4(address->ip);
    else if (address->kind == ADDRESS_IP6)
        memcpy(ret->bytes, address->ip, sizeof ret->bytes);
    return address->kind == ADDRESS_IP4 || address->kind == ADDRESS_IP6;
}

void address_from_ip(const struct ip *ip, uint16_t port, struct address *ret)
{
    *ret = (struct address){ .port = port };
    ip6_set(ret, ip->bytes);
}

socklen_t address_to(const struct address *address, struct sockaddr_storage *ret)
{
    *ret = (struct sockaddr_storage){};
    switch (address->kind) {
    case ADDRESS_IP4: {
        struct sockaddr_in *in = (void *)ret;
        in->sin_family = AF_INET;
        in->sin_port = htons(address->port);
        memcpy(&in->sin_addr, address->ip, 4);
        return sizeof *in;
    }
    case ADDRESS_IP6: {
        struct sockaddr_in6 *in6 = (void *)ret;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(address->port);
        memcpy(&in6->sin6_addr, address->ip, 16);
        return sizeof *in6;
    }
    case ADDRESS_UNIX: {
        struct sockaddr_un *un = (void *)ret;
        un->sun_family = AF_UNIX;
        static_assert(sizeof un->sun_path == sizeof address->path, "one path fits the other");
        memcpy(un->sun_path, address->path, sizeof un->sun_path);
        return sizeof *un;
    }
    case ADDRESS_NONE:
        break;
    }
    return 0;
}

const char *address_text(const struct address *address, char buffer[static ADDRESS_TEXT_BYTES])
{
    char ip[INET6_ADDRSTRLEN] = "";
    switch (address->kind) {
    case ADDRESS_IP4:
        inet_ntop(AF_INET, address->ip, ip, sizeof ip);
        snprintf(buffer, ADDRESS_TEXT_BYTES, "%s:%u", ip, address->port);
        break;
    case ADDRESS_IP6:
        inet_ntop(AF_INET6, address->ip, ip, sizeof ip);
        snprintf(buffer, ADDRESS_TEXT_BYTES, "[%s]:%u", ip, address->port);
        break;
    case ADDRESS_UNIX:
        snprintf(buffer, ADDRESS_TEXT_BYTES, "unix:%s", address->path);
        break;
    case ADDRESS_NONE:
        snprintf(buffer, ADDRESS_TEXT_BYTES, "none");
        break;
    }
    return buffer;
}

bool address_equal(const struct address *a, const struct address *b)
{
    return a->kind == b->kind && a->port == b->port && memcmp(a->ip, b->ip, sizeof a->ip) == 0 &&
           strcmp(a->path, b->path) == 0;
}

bool address_loopback(const struct address *address)
{
    static const uint8_t one[16] = { [15] = 1 };
    switch (address->kind) {
    case ADDRESS_IP4:
        return address->ip[0] == 127;
    case ADDRESS_IP6:
        return memcmp(address->ip, one, sizeof one) == 0;
    case ADDRESS_UNIX:
        return true;
    case ADDRESS_NONE:
        break;
    }
    return false;
}
