/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small server for a container: listens on $PORT, thinks for 200 ms, and says who it is. Several
 * requests at once are served by a process each. Ends with SIGTERM.
 *
 *     gcc -static -Os -o server server.c
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void leave(int number)
{
    (void)number;
    _exit(0);
}

static void answer(int fd)
{
    char text[4096], out[256], host[64] = "?";
    const char words[] = "hello from a container\n";

    if (read(fd, text, sizeof text) > 0) {
        usleep(200 * 1000);
        (void)gethostname(host, sizeof host - 1);
        int size = snprintf(out, sizeof out,
                            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
                            "Replica: %s\r\nConnection: close\r\n\r\n%s",
                            sizeof words - 1, host, words);
        if (write(fd, out, (size_t)size) < 0)
            perror("write");
    }
    close(fd);
}

int main(void)
{
    const char *port = getenv("PORT");
    struct sockaddr_in at = { .sin_family = AF_INET };
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    at.sin_port = htons((unsigned short)(port ? atoi(port) : 8080));
    signal(SIGTERM, leave);
    signal(SIGCHLD, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 128) < 0) {
        perror("listen");
        return 1;
    }
    printf("listening on %d\n", ntohs(at.sin_port));
    fflush(stdout);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        if (fork() == 0) {
            close(listener);
            answer(fd);
            _exit(0);
        }
        close(fd);
    }
}
