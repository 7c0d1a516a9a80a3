/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address.h -- where a socket is: an IP address and port, or a path. Plain data. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/ip.h"
#include "base/slice.h"

enum address_kind { ADDRESS_NONE, ADDRESS_IP4, ADDRESS_IP6, ADDRESS_UNIX };

struct address {
    enum address_kind kind;
    uint16_t port;  /* host order */
    uint8_t ip[16]; /* the first 4 for ADDRESS_IP4; an IPv4-mapped one is made ADDRESS_IP4 */
    char path[108]; /* ADDRESS_UNIX, terminated; empty for a peer without a name */
};

/* "1.2.3.4:80", "[::1]:80", "unix:PATH". Names are not resolved: ERR_BAD_INPUT (-1 code). */
struct err;
[[nodiscard]] int address_parse(struct slice text, struct address *ret, struct err *err);
/* An address without a port, IPv4 or IPv6 (brackets allowed). */
bool address_parse_ip(struct slice text, struct address *ret);

void address_from(const struct sockaddr_storage *sockaddr, socklen_t size, struct address *ret);
socklen_t address_to(const struct address *address, struct sockaddr_storage *ret);

/* As base/ip.h has it; false: a Unix socket's, or none. */
bool address_ip(const struct address *address, struct ip *ret);
void address_from_ip(const struct ip *ip, uint16_t port, struct address *ret);

enum { ADDRESS_TEXT_BYTES = 128 };
/* As address_parse() takes it. Returns buffer. */
const char *address_text(const struct address *address, char buffer[static ADDRESS_TEXT_BYTES]);
bool address_equal(const struct address *a, const struct address *b);
bool address_loopback(const struct address *address); /* 127/8, ::1, unix */
