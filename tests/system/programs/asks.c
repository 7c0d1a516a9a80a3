/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a test asks inside of a container: a server on $PORT that answers each request with one
 * word, "ok:" or "no:", and what it found. One after the other.
 *
 *     GET /connect/ADDRESS/PORT  by TCP: what the other side says
 *     GET /ask/ADDRESS           the same of a resolver: which address name.test has. "resolver" is
 *                                the first one of /etc/resolv.conf
 *     GET /file/PATH             what it holds
 *     GET /who                   user and group
 *     GET /env/NAME              of its environment
 *     GET /words                 its arguments
 *     GET /chat                  from then on it writes without end
 *
 * A test compiles it: gcc -static -Os.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TEXT_BYTES = 4096, WAIT_S = 5 };

struct found {
    int size; /* below 0: the errno */
    char text[TEXT_BYTES];
};

static void leave(int number)
{
    (void)number;
    _exit(0);
}

/* ---- ways out -------------------------------------------------------------------------------- */

static void reach(const char *address, unsigned port, int type, const void *said, size_t size,
                  struct found *ret)
{
    struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
    struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    struct timeval wait = { .tv_sec = WAIT_S };
    int is6 = inet_pton(AF_INET6, address, &six.sin6_addr) == 1;

    ret->size = -EINVAL;
    if (!is6 && inet_pton(AF_INET, address, &four.sin_addr) != 1)
        return;
    int fd = socket(is6 ? AF_INET6 : AF_INET, type, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    ssize_t r =
        is6 ? connect(fd, (void *)&six, sizeof six) : connect(fd, (void *)&four, sizeof four);
    if (r == 0)
        r = send(fd, said, size, MSG_NOSIGNAL);
    if (r >= 0)
        r = recv(fd, ret->text, sizeof ret->text - 1, 0);
    ret->size = r < 0 ? -errno : (int)r;
    close(fd);
}

static void connect_to(char *where, struct found *ret)
{
    static const char request[] = "GET /who HTTP/1.0\r\n\r\n";
    char *port = strrchr(where, '/');

    ret->size = -EINVAL;
    if (!port)
        return;
    *port++ = '\0';
    reach(where, (unsigned)strtoul(port, NULL, 10), SOCK_STREAM, request, sizeof request - 1, ret);
}

/* The first one that it is told of. */
static int resolver(char *ret, size_t room)
{
    char line[256];
    FILE *file = fopen("/etc/resolv.conf", "r");
    int found = 0;

    while (file && !found && fgets(line, sizeof line, file)) {
        size_t end = strcspn(line, "\r\n");
        line[end] = '\0';
        found = strncmp(line, "nameserver ", 11) == 0;
    }
    if (file)
        fclose(file);
    if (found)
        snprintf(ret, room, "%s", line + 11);
    return found;
}

static void ask(const char *where, struct found *ret)
{
    static const unsigned char question[] = { 7,   7,   1,   0,   0,   1,   0,   0,   0,
                                              0,   0,   0,   4,   'n', 'a', 'm', 'e', 4,
                                              't', 'e', 's', 't', 0,   0,   1,   0,   1 };
    char address[256] = "";
    const char *to = where;

    ret->size = -ENOENT;
    if (strcmp(where, "resolver") == 0) {
        if (!resolver(address, sizeof address))
            return;
        to = address;
    }
    reach(to, 53, SOCK_DGRAM, question, sizeof question, ret);
    if (ret->size < (int)sizeof question + 4)
        return;
    const unsigned char *last = (const unsigned char *)ret->text + ret->size - 4;
    ret->size =
        snprintf(ret->text, sizeof ret->text, "%d.%d.%d.%d", last[0], last[1], last[2], last[3]);
}

/* ---- what it has ----------------------------------------------------------------------------- */

static void file_text(const char *path, struct found *ret)
{
    int fd = open(path, O_RDONLY);
    ssize_t r = fd < 0 ? -1 : read(fd, ret->text, sizeof ret->text - 1);

    ret->size = r < 0 ? -errno : (int)r;
    if (fd >= 0)
        close(fd);
}

static void words_text(char **words, struct found *ret)
{
    ret->size = 0;
    for (size_t i = 1; words[i]; i++)
        ret->size += snprintf(ret->text + ret->size, sizeof ret->text - (size_t)ret->size, "%s%s",
                              i > 1 ? " " : "", words[i]);
}

static void chat(void)
{
    if (fork() != 0)
        return;
    for (;;)
        puts("a line of some bytes, and then the same line again and again");
}

/* ---- requests -------------------------------------------------------------------------------- */

static int is(char **target, const char *prefix)
{
    size_t size = strlen(prefix);

    if (strncmp(*target, prefix, size) != 0)
        return 0;
    *target += size;
    return 1;
}

static void found_of(char *target, char **words, struct found *ret)
{
    ret->size = 0;
    if (is(&target, "/connect/"))
        connect_to(target, ret);
    else if (is(&target, "/ask/"))
        ask(target, ret);
    else if (is(&target, "/file/"))
        file_text(target - 1, ret);
    else if (is(&target, "/env/"))
        ret->size =
            snprintf(ret->text, sizeof ret->text, "%s", getenv(target) ? getenv(target) : "");
    else if (is(&target, "/who"))
        ret->size = snprintf(ret->text, sizeof ret->text, "%d %d", (int)getuid(), (int)getgid());
    else if (is(&target, "/words"))
        words_text(words, ret);
    else if (is(&target, "/chat"))
        chat();
}

static void answer(int fd, char **words)
{
    char text[TEXT_BYTES] = "", *rest = text;
    struct found found;

    if (read(fd, text, sizeof text - 1) <= 0)
        return;
    strsep(&rest, " ");
    char *target = strsep(&rest, " ");
    found_of(target ? target : "", words, &found);
    if (found.size < 0)
        snprintf(found.text, sizeof found.text, "%s", strerror(-found.size));
    else
        found.text[found.size] = '\0';
    dprintf(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s: %s",
            strlen(found.text) + 4, found.size < 0 ? "no" : "ok", found.text);
}

int main(int count, char **words)
{
    const char *port = getenv("PORT");
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_port =
                                  htons((uint16_t)strtoul(port ? port : "8080", NULL, 10)) };

    (void)count;
    signal(SIGTERM, leave);
    signal(SIGCHLD, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&at, sizeof at) < 0 || listen(listener, 64) < 0) {
        perror("listen");
        return 1;
    }
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        answer(fd, words);
        close(fd);
    }
}
