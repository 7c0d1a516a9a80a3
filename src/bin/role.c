/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include <perigee/worker.h>

#include "base/err.h"
#include "bin/roles.h"
#include "control/control.h"
#include "dns/dns.h"
#include "gateway/gateway.h"
#include "pop/pop.h"
#include "supervisor/upgrade.h"
#include "sys/sandbox.h"
#include "sys/spawn.h"

/* Replicas have those between. */
enum { USER_SAME = -1, USER_GATEWAY = 0, USER_DNS = SANDBOX_UIDS - 1 };

static const struct {
    const char *name, *shown; /* shown by ps */
    int (*main)(int channel_fd, int lifeline_fd);
    bool unprivileged;     /* works with its descriptors, and its user's own files */
    int user;              /* with its descriptors alone: as root it has this one of the range */
    void (*prepare)(void); /* with what it may before */
} roles[] = {
    { "gateway", "perigee-gateway", gateway_main, true, USER_GATEWAY, gateway_prepare },
    { "pop", "perigee-pop", pop_main, true, USER_SAME, NULL },
    { "control", "perigee-control", control_main, true, USER_SAME, NULL },
    { "dns", "perigee-dns", dns_main, true, USER_DNS, dns_prepare },
    { "netns", "perigee-netns", netns_main, false, USER_SAME, NULL }, /* gives up most itself */
    { "successor", "perigee", upgrade_successor_main, false, USER_SAME, NULL },
};

int role_main(int argc, char **argv)
{
    for (size_t i = 0; argc == 3 && i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(roles[i].name, argv[2]) != 0)
            continue;
        if (fcntl(PERIGEE_CHANNEL_FD, F_GETFD) < 0 || fcntl(PERIGEE_LIFELINE_FD, F_GETFD) < 0)
            break;
        lifeline_boot(roles[i].shown, PERIGEE_CHANNEL_FD, PERIGEE_LIFELINE_FD);
        struct err err;
        if (roles[i].prepare)
            roles[i].prepare();
        uint32_t base = roles[i].user != USER_SAME ? sandbox_uid_base() : 0;
        uint32_t uid = base ? base + (uint32_t)roles[i].user : 0;
        if (roles[i].unprivileged && spawn_unprivileged(uid, &err) < 0) {
            (void)fprintf(stderr, "perigee: %s: %s\n", roles[i].name, err.message);
            return 1;
        }
        /* Held until the process is gone: the supervisor kills who closes its channel, and would
         * then not learn the exit status. */
        (void)fcntl(PERIGEE_CHANNEL_FD, F_DUPFD_CLOEXEC, 0);
        return roles[i].main(PERIGEE_CHANNEL_FD, PERIGEE_LIFELINE_FD);
    }
    (void)fprintf(stderr, "perigee: roles are started by `perigee up`, not by hand\n");
    return 2;
}
