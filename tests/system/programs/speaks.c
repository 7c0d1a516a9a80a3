/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container that speaks more than plain HTTP, on $PORT; each connection is a process.
 *
 *     /v2/...      by whatever method: what was asked for, as one of a model server's answers
 *     GET /events  server-sent events; the next one is not written before /next was asked for
 *     GET /next
 *     GET /ws      a WebSocket: text comes back in capitals, bytes as they are; "close" ends it
 *
 * A test compiles it: gcc -static -Os ... -lcrypto.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <endian.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_BYTES = 1 << 16, FRAME_BYTES = 4 << 20, EVENTS = 5 };
enum { WS_TEXT = 1, WS_CLOSE = 8 };

static int next[2]; /* a pipe: a byte for each /next */

static void leave(int number)
{
    (void)number;
    _exit(0);
}

static int read_all(FILE *from, void *ret, size_t size)
{
    return fread(ret, 1, size, from) == size;
}

/* ---- server-sent events ---------------------------------------------------------------------- */

static void events(int fd)
{
    char byte;

    dprintf(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
    for (int i = 0; i < EVENTS; i++) {
        dprintf(fd, "data: %d\n\n", i);
        if (read(next[0], &byte, 1) != 1)
            return;
    }
}

/* ---- a WebSocket ----------------------------------------------------------------------------- */

/* Of a client: masked, and whole. Its payload's size, below 0 at the end. */
static int64_t frame_read(FILE *from, unsigned *ret_kind, unsigned char *ret)
{
    unsigned char head[2], mask[4];
    uint16_t size16;
    uint64_t size64;

    if (!read_all(from, head, 2))
        return -1;
    *ret_kind = head[0] & 15;
    uint64_t size = head[1] & 127;
    if (size == 126) {
        if (!read_all(from, &size16, sizeof size16))
            return -1;
        size = be16toh(size16);
    } else if (size == 127) {
        if (!read_all(from, &size64, sizeof size64))
            return -1;
        size = be64toh(size64);
    }
    if (size > FRAME_BYTES || !read_all(from, mask, 4) || !read_all(from, ret, size))
        return -1;
    for (uint64_t i = 0; i < size; i++)
        ret[i] ^= mask[i & 3];
    return (int64_t)size;
}

static void frame_write(FILE *to, unsigned kind, const unsigned char *data, uint64_t size)
{
    uint64_t size64 = htobe64(size);

    putc((int)(128 | kind), to);
    if (size < 126) {
        putc((int)size, to);
    } else {
        putc(127, to);
        fwrite(&size64, 1, sizeof size64, to);
    }
    fwrite(data, 1, size, to);
    fflush(to);
}

static void accepted(FILE *to, const char *head)
{
    static const char name[] = "\r\nSec-WebSocket-Key: ";
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const char *key = strcasestr(head, name);
    char text[256] = "";
    unsigned char digest[SHA_DIGEST_LENGTH], coded[64];

    if (!key)
        return;
    key += sizeof name - 1;
    snprintf(text, sizeof text, "%.*s%s", (int)strcspn(key, "\r"), key, magic);
    SHA1((unsigned char *)text, strlen(text), digest);
    EVP_EncodeBlock(coded, digest, sizeof digest);
    fprintf(to,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Accept: %s\r\n\r\n",
            (char *)coded);
    fflush(to);
}

static void talk(FILE *wire, FILE *to, const char *head)
{
    static unsigned char data[FRAME_BYTES];
    static const unsigned char code[2] = { 4000 >> 8, 4000 & 255 };
    unsigned kind;
    int64_t size;

    accepted(to, head);
    while ((size = frame_read(wire, &kind, data)) >= 0 && kind != WS_CLOSE) {
        if (kind == WS_TEXT && size == 5 && memcmp(data, "close", 5) == 0) {
            frame_write(to, WS_CLOSE, code, sizeof code);
            continue; /* until the other side says it as well */
        }
        for (int64_t i = 0; kind == WS_TEXT && i < size; i++)
            data[i] = (unsigned char)toupper(data[i]);
        frame_write(to, kind, data, (uint64_t)size);
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

static void serve(int fd)
{
    static char head[HEAD_BYTES];
    FILE *wire = fdopen(fd, "r"), *to = fdopen(dup(fd), "w");
    size_t at = 0;
    char first[1024] = "";

    while (at + 1 < sizeof head && fgets(head + at, (int)(sizeof head - at), wire)) {
        size_t size = strlen(head + at);
        if (at == 0)
            snprintf(first, sizeof first, "%.*s", (int)strcspn(head, "\r\n"), head);
        at += size;
        if (size == 2)
            break;
    }
    if (strncmp(first, "GET /events ", 12) == 0) {
        events(fd);
    } else if (strncmp(first, "GET /ws ", 8) == 0) {
        talk(wire, to, head);
    } else {
        if (strncmp(first, "GET /next ", 10) == 0 && write(next[1], "x", 1) != 1)
            perror("next");
        fprintf(to,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                "Connection: close\r\n\r\n{\"asked\":\"%s\"}",
                strlen(first) + 12, first);
        fflush(to);
    }
}

int main(void)
{
    const char *port = getenv("PORT");
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_port =
                                  htons((uint16_t)strtoul(port ? port : "8080", NULL, 10)) };

    signal(SIGTERM, leave);
    signal(SIGCHLD, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (pipe(next) < 0 || bind(listener, (void *)&at, sizeof at) < 0 || listen(listener, 64) < 0) {
        perror("listen");
        return 1;
    }
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fork() == 0) {
            serve(fd);
            _exit(0);
        }
        close(fd);
    }
}
