/* SPDX-License-Identifier: Apache-2.0 */
/* The program to be, tried as a child of the one that runs: it reads the state that it would be
 * left, whole, and says whether it could go on from there. It changes nothing. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/version.h"
#include "contract/messages.h"
#include "supervisor/handover.h"
#include "supervisor/upgrade.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/home.h"
#include "sys/shm.h"

static int look(int state_fd, struct err *err)
{
    char libdir[HOME_PATH_BYTES];
    const void *state;
    size_t bytes;
    struct handover handover;
    int r = shm_map_published(state_fd, HANDOVER_BYTES_MAX, &state, &bytes, err);
    if (r == 0) {
        r = handover_read((void *)(uintptr_t)state, bytes, &handover, err);
        shm_unmap((void *)(uintptr_t)state, bytes);
    }
    return r < 0 ? r : home_libdir(libdir, err);
}

int upgrade_successor_main(int channel_fd, int)
{
    struct message_upgrade_checked answer = MESSAGE_INIT(MESSAGE_UPGRADE_CHECKED);
    struct channel *channel = channel_new(channel_fd);
    struct pollfd poll_fd = { channel_fd, POLLIN, 0 };
    union message message;
    int fds[CHANNEL_FDS_MAX];
    size_t size, fd_count = 0;
    struct err err = {};
    (void)poll(&poll_fd, 1, -1);
    int r = channel_receive(channel, &message, sizeof message, &size, fds, &fd_count, &err);
    if (r > 0)
        r = message_check(&message, size, fd_count, &err);
    if (r == 0 && message.head.type != MESSAGE_UPGRADE_CHECK)
        r = err_set(&err, ERR_BAD_INPUT, "%s is not what was to come",
                    message_name(message.head.type));
    if (r == 0)
        r = look(fds[0], &err);
    answer.code = r < 0 ? err.code : 0;
    (void)snprintf(answer.version, sizeof answer.version, "%s", PERIGEE_VERSION);
    (void)snprintf(answer.text, sizeof answer.text, "%s", err.message);
    r = channel_send(channel, &answer, sizeof answer, NULL, 0, &err);
    for (size_t i = 0; i < fd_count; i++)
        fd_close(&fds[i]);
    channel_free(channel);
    return r < 0 ? 1 : 0;
}
