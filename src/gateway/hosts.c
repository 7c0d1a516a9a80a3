/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/hosts.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#include "contract/table.h"

#define HOST_BYTES_MAX 253

static bool is_address(const char *host, size_t size)
{
    char text[HOST_BYTES_MAX + 1];
    unsigned char ip[16];

    memcpy(text, host, size);
    text[size] = '\0';
    char *zone = strchr(text, '%'); /* fe80::1%eth0 */
    if (zone)
        *zone = '\0';
    return inet_pton(AF_INET, text, ip) == 1 || inet_pton(AF_INET6, text, ip) == 1;
}

uint32_t host_label_find(const struct table_head *table, struct slice label)
{
    for (size_t i = 0; i + 1 < label.size; i++)
        if (label.data[i] == '-' && label.data[i + 1] == '-')
            return table_find_endpoint(table,
                                       (struct slice){ label.data + i + 2, label.size - i - 2 },
                                       (struct slice){ label.data, i });
    return table_find_endpoint(table, SLICE("default"), label);
}

/* What stands before ".suffix"; false when it does not end so. */
static bool label_before(struct slice host, struct slice suffix, struct slice *ret)
{
    if (suffix.size == 0 || host.size <= suffix.size + 1 || !slice_ends(host, suffix) ||
        host.data[host.size - suffix.size - 1] != '.')
        return false;
    *ret = (struct slice){ host.data, host.size - suffix.size - 1 };
    return true;
}

enum host_kind host_find(const struct table_head *table, struct slice host, uint32_t *ret_endpoint)
{
    char lower[HOST_BYTES_MAX + 1];
    struct slice zone = table_text(table, table->zone), label;

    if (host.size > 1 && host.data[host.size - 1] == '.')
        host.size--; /* the root, written out */
    if (host.size == 0)
        return HOST_ANY;
    if (host.size > HOST_BYTES_MAX)
        return HOST_FOREIGN;
    for (size_t i = 0; i < host.size; i++)
        lower[i] = (char)tolower((unsigned char)host.data[i]);
    host.data = lower;
    if (slice_is(host, "localhost") || slice_equal_nocase(host, zone) ||
        is_address(host.data, host.size))
        return HOST_ANY;
    if (label_before(host, zone, &label) || label_before(host, SLICE("localhost"), &label)) {
        *ret_endpoint = host_label_find(table, label);
        return *ret_endpoint == TABLE_NONE ? HOST_UNKNOWN : HOST_ENDPOINT;
    }
    *ret_endpoint = table_find_host(table, host);
    return *ret_endpoint == TABLE_NONE ? HOST_FOREIGN : HOST_ENDPOINT;
}

bool host_foreign_page(struct slice scheme, struct slice authority, struct slice origin,
                       struct slice sec_fetch_site)
{
    if (origin.size > 0) {
        /* "null" and other schemes are foreign, too. */
        if (origin.size < scheme.size + 3 ||
            !slice_equal_nocase((struct slice){ origin.data, scheme.size }, scheme) ||
            memcmp(origin.data + scheme.size, "://", 3) != 0)
            return true;
        struct slice from = { origin.data + scheme.size + 3, origin.size - scheme.size - 3 };
        if (!slice_equal_nocase(from, authority))
            return true;
    }
    return slice_is(sec_fetch_site, "cross-site");
}
