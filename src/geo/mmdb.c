/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library checks metadata when it opens a file and the rest as it goes, so that damage inside
 * would show as addresses that are not known. The tree is walked once at the start instead: its
 * nodes lie side by side, and each of the two records of one is a node, nothing, or data inside.
 */
#include "geo/mmdb.h"

#include <errno.h>
#include <inttypes.h>
#include <maxminddb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/auto.h"
#include "base/err.h"
#include "geo/country.h"

enum { DAY_S = 86'400, RECORDS_READ_MAX = 1 << 14 };

struct mmdb {
    MMDB_s db;
};

/* Both forms are tried, the one that is there is taken. */
static const char *const country_paths[][3] = { { "country", "iso_code", NULL },
                                                { "country_code", NULL } };
static const char *const latitude_paths[][3] = { { "location", "latitude", NULL },
                                                 { "latitude", NULL } };
static const char *const longitude_paths[][3] = { { "location", "longitude", NULL },
                                                  { "longitude", NULL } };
enum { FORM_COUNT = 2 };

/* 1: there, 0: not, negative: damaged. */
static int value_find(MMDB_entry_s *entry, const char *const paths[FORM_COUNT][3],
                      MMDB_entry_data_s *ret)
{
    for (size_t i = 0; i < FORM_COUNT; i++) {
        int r = MMDB_aget_value(entry, ret, paths[i]);
        if (r == MMDB_SUCCESS && ret->has_data)
            return 1;
        if (r != MMDB_SUCCESS && r != MMDB_LOOKUP_PATH_DOES_NOT_MATCH_DATA_ERROR)
            return ERR_BAD_INPUT;
    }
    return 0;
}

static bool number_of(const MMDB_entry_data_s *data, double *ret)
{
    if (data->type == MMDB_DATA_TYPE_DOUBLE)
        *ret = data->double_value;
    else if (data->type == MMDB_DATA_TYPE_FLOAT)
        *ret = (double)data->float_value;
    else
        return false;
    return true;
}

static int spot_read(MMDB_entry_s *entry, struct mmdb_found *found)
{
    MMDB_entry_data_s data;
    double latitude, longitude;
    int r = value_find(entry, latitude_paths, &data);
    if (r <= 0 || !number_of(&data, &latitude))
        return r < 0 ? r : 0;
    r = value_find(entry, longitude_paths, &data);
    if (r <= 0 || !number_of(&data, &longitude))
        return r < 0 ? r : 0;
    if (latitude >= -90 && latitude <= 90 && longitude >= -180 && longitude <= 180) {
        found->located = true;
        found->latitude = latitude;
        found->longitude = longitude;
    }
    return 0;
}

/* Kosovo has no code of ISO 3166-1, so that laws do not know who is there; where it is we do. */
static int record_read(MMDB_entry_s *entry, struct mmdb_found *found)
{
    static const struct mmdb_found kosovo = { .latitude = 42.6, .longitude = 20.9 };
    MMDB_entry_data_s data;
    struct slice code = {};
    int r = value_find(entry, country_paths, &data);
    if (r < 0)
        return r;
    if (r > 0 && data.type == MMDB_DATA_TYPE_UTF8_STRING)
        code = (struct slice){ data.utf8_string, data.data_size };
    if (country_known(code))
        found->country = country_number_of(code);
    r = spot_read(entry, found);
    if (r == 0 && !found->located && slice_is(code, "XK")) {
        found->located = found->placed_by_us = true;
        found->latitude = kosovo.latitude;
        found->longitude = kosovo.longitude;
    }
    return r;
}

/* ---- opening -------------------------------------------------------------------------------- */

struct survey {
    uint32_t records, countries; /* read, and those of them with a country */
    uint32_t records_max;
};

static int data_check(MMDB_entry_s *entry, struct survey *survey)
{
    struct mmdb_found found = {};
    if (survey->records >= survey->records_max)
        return 0;
    survey->records++;
    int r = record_read(entry, &found);
    survey->countries += found.country != COUNTRY_UNKNOWN;
    return r;
}

static int nodes_check(const MMDB_s *db, uint32_t first, uint32_t step, struct survey *survey,
                       struct err *err)
{
    for (uint64_t number = first; number < db->metadata.node_count; number += step) {
        MMDB_search_node_s node;
        int r = MMDB_read_node(db, (uint32_t)number, &node);
        bool bad = r != MMDB_SUCCESS || node.left_record_type == MMDB_RECORD_TYPE_INVALID ||
                   node.right_record_type == MMDB_RECORD_TYPE_INVALID;
        if (!bad && node.left_record_type == MMDB_RECORD_TYPE_DATA)
            bad = data_check(&node.left_record_entry, survey) < 0;
        if (!bad && node.right_record_type == MMDB_RECORD_TYPE_DATA)
            bad = data_check(&node.right_record_entry, survey) < 0;
        if (bad)
            return err_set(err, ERR_BAD_INPUT, "it is damaged, at node %" PRIu64 " of %u", number,
                           db->metadata.node_count);
    }
    return 0;
}

static int tree_check(const MMDB_s *db, struct err *err)
{
    struct survey all = {}, some = { .records_max = RECORDS_READ_MAX };
    uint32_t step = db->metadata.node_count / RECORDS_READ_MAX + 1;
    int r = nodes_check(db, 0, 1, &all, err); /* the tree, whole; no record */
    if (r == 0)
        r = nodes_check(db, step - 1, step, &some, err); /* records from all over it */
    if (r == 0 && some.countries == 0 && step > 1) {
        some.records = 0;
        r = nodes_check(db, 0, 1, &some, err);
    }
    if (r == 0 && some.countries == 0)
        r = err_set(err, ERR_BAD_INPUT,
                    "its records ('%s') name no countries: country.iso_code or country_code",
                    ERR_TEXT(db->metadata.database_type ? db->metadata.database_type : ""));
    return r;
}

static int metadata_check(const MMDB_s *db, struct err *err)
{
    const MMDB_metadata_s *metadata = &db->metadata;
    if (metadata->binary_format_major_version != 2)
        return err_set(err, ERR_BAD_INPUT, "it has format version %u, and 2 is read",
                       metadata->binary_format_major_version);
    if (metadata->ip_version != 4 && metadata->ip_version != 6)
        return err_set(err, ERR_BAD_INPUT, "it is of IP version %u", metadata->ip_version);
    if (metadata->node_count == 0)
        return err_set(err, ERR_BAD_INPUT, "it is empty");
    return 0;
}

static int open_error(const char *path, int r, int number, struct err *err)
{
    switch (r) {
    case MMDB_FILE_OPEN_ERROR:
        return err_set(err, number == ENOENT ? ERR_NOT_FOUND : ERR_BAD_INPUT, "opening '%s': %s",
                       ERR_TEXT(path), strerror(number));
    case MMDB_IO_ERROR:
        return err_set(err, ERR_BAD_INPUT, "reading '%s': %s", ERR_TEXT(path),
                       number ? strerror(number) : "input/output error");
    case MMDB_OUT_OF_MEMORY_ERROR:
        return err_set(err, ERR_BAD_INPUT, "'%s' cannot be mapped: no memory", ERR_TEXT(path));
    default:
        return err_set(err, ERR_BAD_INPUT, "'%s' is no MMDB, or not a whole one: %s",
                       ERR_TEXT(path), MMDB_strerror(r));
    }
}

int mmdb_open(const char *path, struct mmdb **ret, struct err *err)
{
    struct mmdb *mmdb = mem_zalloc(sizeof *mmdb);
    errno = 0;
    int r = MMDB_open(path, MMDB_MODE_MMAP, &mmdb->db);
    if (r != MMDB_SUCCESS) {
        int number = errno;
        free(mmdb);
        return open_error(path, r, number, err);
    }
    r = metadata_check(&mmdb->db, err);
    if (r == 0)
        r = tree_check(&mmdb->db, err);
    if (r < 0) {
        mmdb_free(mmdb);
        return err_wrap(err, "MMDB '%s'", ERR_TEXT(path));
    }
    *ret = mmdb;
    return 0;
}

void mmdb_free(struct mmdb *mmdb)
{
    if (!mmdb)
        return;
    MMDB_close(&mmdb->db);
    free(mmdb);
}

/* ---- finding -------------------------------------------------------------------------------- */

/* The shortest prefix of an IPv6 address that holds no IPv4 one: those lie elsewhere in the tree
 * than in struct ip. */
static unsigned bits_off_ip4(const struct ip *ip)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    for (unsigned bit = 0; bit < IP4_BITS; bit++)
        if (((ip->bytes[bit / 8] ^ mapped[bit / 8]) >> (7 - bit % 8)) & 1)
            return bit + 1;
    return IP4_BITS;
}

struct mmdb_found mmdb_find(const struct mmdb *mmdb, const struct ip *ip)
{
    struct sockaddr_in four = { .sin_family = AF_INET };
    struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
    bool is4 = ip_is4(ip);
    const void *address = is4 ? (const void *)&four : &six;
    struct mmdb_found found = {};
    int r;

    memcpy(&four.sin_addr, ip->bytes + 12, 4);
    memcpy(&six.sin6_addr, ip->bytes, 16);
    unsigned least = is4 ? IP4_BITS : bits_off_ip4(ip);
    MMDB_lookup_result_s result = MMDB_lookup_sockaddr(&mmdb->db, address, &r);
    if (r == MMDB_IPV6_LOOKUP_IN_IPV4_DATABASE_ERROR) {
        found.bits = (uint8_t)least;
        return found;
    }
    unsigned bits = result.netmask;
    if (mmdb->db.metadata.ip_version == 4)
        bits += IP4_BITS;
    if (r != MMDB_SUCCESS || bits > 128)
        bits = 128;
    found.bits = (uint8_t)(bits > least ? bits : least);
    if (r == MMDB_SUCCESS && result.found_entry && record_read(&result.entry, &found) < 0)
        found = (struct mmdb_found){ .bits = found.bits };
    return found;
}

/* ---- about it ------------------------------------------------------------------------------- */

int64_t mmdb_age_days(const struct mmdb *mmdb, int64_t unix_s)
{
    uint64_t made = mmdb->db.metadata.build_epoch;
    if (made > INT64_MAX / 2)
        made = INT64_MAX / 2;
    int64_t age = unix_s - (int64_t)made;
    return age < 0 ? -((-age + DAY_S - 1) / DAY_S) : age / DAY_S;
}

const char *mmdb_warning(const struct mmdb *mmdb, int64_t unix_s, char *buffer, size_t bytes)
{
    int64_t days = mmdb_age_days(mmdb, unix_s);
    if (days > MMDB_OLD_DAYS)
        snprintf(buffer, bytes,
                 "it was made %" PRId64 " days ago, and addresses change hands: bring a newer one",
                 days);
    else if (days < -1)
        snprintf(buffer, bytes,
                 "it was made %" PRId64 " days in the future: is this machine's clock right?",
                 -days);
    else
        return NULL;
    return buffer;
}

const char *mmdb_type(const struct mmdb *mmdb)
{
    return mmdb->db.metadata.database_type ? mmdb->db.metadata.database_type : "";
}
