/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/peer.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

bool dns_peer_ip(const struct sockaddr_storage *storage, struct ip *ret)
{
    if (storage->ss_family == AF_INET) {
        *ret = ip_from4((const uint8_t *)&((const struct sockaddr_in *)storage)->sin_addr);
        return true;
    }
    if (storage->ss_family != AF_INET6)
        return false;
    memcpy(ret->bytes, &((const struct sockaddr_in6 *)storage)->sin6_addr, sizeof ret->bytes);
    return true;
}

bool dns_local_ip(int fd, struct ip *ret)
{
    static const struct ip any = {};
    struct sockaddr_storage storage = {};
    socklen_t size = sizeof storage;
    struct ip ip;
    if (getsockname(fd, (struct sockaddr *)&storage, &size) < 0 || !dns_peer_ip(&storage, &ip))
        return false;
    if (memcmp(ip.bytes + (ip_is4(&ip) ? 12 : 0), any.bytes, ip_is4(&ip) ? 4 : 16) == 0)
        return false;
    *ret = ip;
    return true;
}
