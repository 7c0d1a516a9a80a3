/* SPDX-License-Identifier: Apache-2.0 */
#include "inside.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/err.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/netns.h"

bool inside_possible(void)
{
    struct err err;

    return netns_possible(&err) == 0;
}

/* ---- the container --------------------------------------------------------------------------- */

static int listen_inside(struct sockaddr_in *ret)
{
    struct ifreq loopback = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    socklen_t size = sizeof *ret;
    int fd;

    *ret = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    if (unshare(CLONE_NEWNET) < 0)
        return -1;
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (ioctl(fd, SIOCSIFFLAGS, &loopback) < 0 || bind(fd, (struct sockaddr *)ret, size) < 0 ||
        listen(fd, 64) < 0 || getsockname(fd, (struct sockaddr *)ret, &size) < 0)
        return -1;
    return fd;
}

/* One connection after the other, each for as many requests as its client has. */
static void answer(int fd, const char *says)
{
    char head[4096], text[1024];
    int size = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
                        strlen(says), says);

    while (recv(fd, head, sizeof head, 0) > 0) /* a GET is one segment */
        if (send(fd, text, (size_t)size, MSG_NOSIGNAL) != size)
            return;
}

[[gnu::noreturn]] static void serve(int told, const char *says)
{
    struct sockaddr_in address;
    int listener = listen_inside(&address), fd;

    if (listener < 0 ||
        write(told, &address.sin_port, sizeof address.sin_port) != (ssize_t)sizeof address.sin_port)
        _exit(1);
    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        pid_t child = fork();
        if (child == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            answer(fd, says);
            _exit(0);
        }
        close(fd);
    }
    _exit(1);
}

void inside_begin(struct inside *inside, const char *says)
{
    in_port_t port;
    int told[2];

    assert_int_equal(0, pipe(told));
    inside->pid = fork();
    if (inside->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)signal(SIGCHLD, SIG_IGN);
        serve(told[1], says);
    }
    close(told[1]);
    assert_int_equal(sizeof port, read(told[0], &port, sizeof port));
    close(told[0]);
    inside->pidfd = (int)syscall(SYS_pidfd_open, inside->pid, 0);
    assert_true(inside->pidfd >= 0);
    assert_int_equal(0, address_parse(SLICE("127.0.0.1:1"), &inside->address, NULL));
    inside->address.port = ntohs(port);
}

static void kill_and_reap(pid_t *pid)
{
    if (*pid <= 0)
        return;
    (void)kill(*pid, SIGKILL);
    assert_int_equal(*pid, waitpid(*pid, NULL, 0));
    *pid = 0;
}

void inside_end(struct inside *inside)
{
    kill_and_reap(&inside->pid);
    fd_close(&inside->pidfd);
}

/* ---- the helper ------------------------------------------------------------------------------ */

void inside_helper_begin(struct inside_helper *helper, unsigned others)
{
    int pairs[1 + INSIDE_OTHERS_MAX][2], theirs[1 + INSIDE_OTHERS_MAX];
    struct err err;

    for (unsigned i = 0; i <= others; i++) {
        assert_int_equal(0, channel_pair(pairs[i], &err));
        theirs[i] = pairs[i][1];
    }
    helper->pid = fork();
    if (helper->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (unsigned i = 0; i <= others; i++)
            close(pairs[i][0]);
        netns_serve(theirs, 1 + others, -1);
        _exit(0);
    }
    for (unsigned i = 0; i <= others; i++)
        close(theirs[i]);
    helper->shows_fd = pairs[0][0];
    helper->others = others;
    for (unsigned i = 0; i < others; i++)
        helper->others_fds[i] = pairs[1 + i][0];
}

void inside_helper_end(struct inside_helper *helper)
{
    kill_and_reap(&helper->pid);
}
