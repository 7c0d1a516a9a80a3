/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever the file is: opening ends, finding ends, and every address that shares `bits` with
 * another one gets its answer. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "geo/where.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/* libmaxminddb forgets the metadata of some files that it refuses. */
[[gnu::visibility("default")]] const char *__lsan_default_suppressions(void)
{
    return "leak:libmaxminddb";
}

static void check(const struct where_map *map, const struct ip *ip)
{
    struct where where = where_find(map, ip);
    assert(where.bits <= 128);
    if (where.located)
        assert(where.latitude >= -90 && where.latitude <= 90 && where.longitude >= -180 &&
               where.longitude <= 180);
    struct ip low = ip_cut(ip, where.bits), high = low;
    for (unsigned bit = where.bits; bit < 128; bit++)
        high.bytes[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
    struct where first = where_find(map, &low), last = where_find(map, &high);
    assert(first.country == where.country && last.country == where.country);
    assert(first.located == where.located && last.located == where.located);
    assert(first.latitude == where.latitude && last.latitude == where.latitude);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t fours[][4] = {
        { 0 }, { 10, 1, 2, 3 }, { 127, 0, 0, 1 }, { 203, 0, 113, 129 }, { 255, 255, 255, 255 },
    };
    struct where_map *map;
    char path[64];
    int fd = memfd_create("fuzz-mmdb", MFD_CLOEXEC);

    assert(fd >= 0);
    if (write(fd, data, size) != (ssize_t)size) {
        close(fd);
        return 0;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (where_map_open(NULL, 0, NULL, path, &map, NULL) == 0) {
        for (size_t i = 0; i < sizeof fours / sizeof *fours; i++) {
            struct ip ip = ip_from4(fours[i]);
            check(map, &ip);
        }
        for (size_t at = 0; at + 16 <= size && at < 4096; at += 16) {
            struct ip ip;
            memcpy(ip.bytes, data + at, 16);
            check(map, &ip);
            ip.bytes[0] = 0x20;
            ip.bytes[1] = 0x01;
            check(map, &ip);
        }
        where_map_free(map);
    }
    close(fd);
    return 0;
}
