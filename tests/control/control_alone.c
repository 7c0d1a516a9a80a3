/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_alone HOME: the control role by itself, as the supervisor would start it, for the tests
 * of tests/control. Prints "ready PORT"; ends at end of file on standard input.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <poll.h>
#include <signal.h>

#include "base/err.h"
#include "base/slice.h"
#include "contract/messages.h"
#include "control/control.h"
#include "sys/channel.h"

static struct channel *channel;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void say(const void *message, size_t size, int fd)
{
    struct err err;
    if (channel_send(channel, message, size, &fd, fd >= 0, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
}

static void give_listener(int fd, const char *address)
{
    struct message_listener message = MESSAGE_INIT(MESSAGE_LISTENER);
    message.kind = LISTENER_CONTROL;
    snprintf(message.address, sizeof message.address, "%s", address);
    say(&message, sizeof message, fd);
    close(fd);
}

static int listen_tcp(int *ret_port)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&in, sizeof in) < 0 || listen(fd, 64) < 0 ||
        getsockname(fd, (struct sockaddr *)&in, &size) < 0)
        die("listening");
    *ret_port = ntohs(in.sin_port);
    return fd;
}

static int listen_unix(const char *path)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (strlen(path) >= sizeof un.sun_path)
        die("path too long");
    memcpy(un.sun_path, path, strlen(path) + 1);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&un, sizeof un) < 0 || listen(fd, 64) < 0)
        die("listening");
    return fd;
}

static int wait_ready(pid_t child)
{
    union message message;
    for (;;) {
        size_t size, count;
        int fds[CHANNEL_FDS_MAX], status;
        struct err err;
        struct pollfd poller = { .fd = channel_fd(channel), .events = POLLIN };
        poll(&poller, 1, 30'000);
        int r = channel_receive(channel, &message, sizeof message, &size, fds, &count, &err);
        if (r > 0 && message.head.type == MESSAGE_READY)
            return 0;
        if (r < 0) {
            waitpid(child, &status, 0);
            return -1;
        }
    }
}

int main(int argc, char **argv)
{
    int fds[2], lifeline[2], port, status;
    char path[1024], address[1100];
    struct err err;
    if (argc != 2) {
        fprintf(stderr, "usage: control_alone HOME\n");
        return 2;
    }
    if (channel_pair(fds, &err) < 0 || pipe(lifeline) < 0)
        die("pair");
    pid_t parent = getpid();
    pid_t child = fork();
    if (child == 0) {
        close(fds[0]);
        close(lifeline[1]);
        close(0);
        if (getppid() != parent)
            return 1;
        return control_main(fds[1], lifeline[0]);
    }
    close(fds[1]);
    close(lifeline[0]);
    channel = channel_new(fds[0]);
    struct message_start start = MESSAGE_INIT(MESSAGE_START);
    start.role = ROLE_CONTROL;
    start.instance = 1;
    start.loops = 1;
    snprintf(start.home, sizeof start.home, "%s", argv[1]);
    snprintf(start.zone, sizeof start.zone, "perigee.test");
    snprintf(start.pop, sizeof start.pop, "local");
    say(&start, sizeof start, -1);
    int tcp = listen_tcp(&port);
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    give_listener(tcp, address);
    snprintf(path, sizeof path, "%s/run", argv[1]);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/run/control.sock", argv[1]);
    snprintf(address, sizeof address, "unix:%s", path);
    give_listener(listen_unix(path), address);
    struct message_empty go = MESSAGE_INIT(MESSAGE_GO);
    say(&go, sizeof go, -1);
    if (wait_ready(child) < 0)
        return 1;
    printf("ready %d %d\n", port, (int)child);
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    struct message_drain drain = MESSAGE_INIT(MESSAGE_DRAIN);
    drain.within_ms = 2000;
    say(&drain, sizeof drain, -1);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
