/* SPDX-License-Identifier: Apache-2.0 */
/* This program leaves its place to the next one, and takes that back where it fails. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "supervisor/family.h"
#include "supervisor/supervisor_private.h"
#include "sys/fd.h"
#include "sys/shm.h"

static void upgrade_say(struct supervisor *self, uint32_t state, const char *text)
{
    struct message_upgrade_state message = MESSAGE_INIT(MESSAGE_UPGRADE_STATE);
    message.state = state;
    message.done = self->upgrades_done;
    message.failed = self->upgrades_failed;
    (void)snprintf(message.version, sizeof message.version, "%s", PERIGEE_VERSION);
    (void)snprintf(message.text, sizeof message.text, "%s", text);
    if (state != UPGRADE_STEP)
        core_tell_upgrade(self->core, &message);
    upgrade_tell(self->upgrade, &message);
}

static void upgrade_failed(const char *why, void *data)
{
    struct supervisor *self = data;
    log_error("supervisor", "no upgrade, everything is as it was", LOG_S("why", why));
    self->upgrades_failed++;
    upgrade_say(self, UPGRADE_FAILED, why);
}

static const char *upgrade_busy(void *data)
{
    struct supervisor *self = data;
    if (self->stops)
        return "Perigee is ending";
    if (core_upgrading(self->core))
        return "an upgrade is under way already";
    if (core_draining(self->core))
        return "the gateway of the upgrade before still ends its requests; try again later";
    return NULL;
}

static bool upgrade_calm(void *data)
{
    return core_calm(((struct supervisor *)data)->core);
}

/* For the program of that generation; `before_fd`: this one, should it have to come back. */
static int state_save(struct supervisor *self, uint32_t generation, int before_fd, const char *text,
                      int *ret_fd, struct err *err)
{
    struct handover_head head = {
        .set_count = (uint32_t)self->set_count,
        .flags = (self->config->control ? HANDOVER_CONTROL : 0) |
                 (self->config->dns ? HANDOVER_DNS : 0) |
                 (self->config->agent ? 0 : HANDOVER_NO_POP) |
                 (self->config->gateway ? 0 : HANDOVER_NO_GATEWAY) | HANDOVER_READS_PROJECTS |
                 (*text ? handover_back_flags(self->flags_before) : 0),
        .generation = generation,
        .generation_before = self->generation,
        .generation_last = generation > self->generation_last ? generation : self->generation_last,
        .upgrades_done = self->upgrades_done,
        .upgrades_failed = self->upgrades_failed,
        .uid_base = self->uid_base,
        .lock_fd = self->lock_fd,
        .lifeline_fds = { self->lifeline[0], self->lifeline[1] },
        .socket_fd = upgrade_socket_fd(self->upgrade),
        .client_fd = upgrade_client_fd(self->upgrade),
        .before_fd = before_fd,
        .start = self->config->start,
    };
    struct handover out;
    head.start.head = (struct message_head){ MESSAGE_MAGIC, MESSAGE_START, MESSAGE_VERSION };
    head.start.role = ROLE_GATEWAY;
    (void)snprintf(head.text, sizeof head.text, "%s", text);
    core_save_counts(self->core, &head);
    handover_seal(&head);
    if (head.bytes > HANDOVER_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the state has %ju bytes", (uintmax_t)head.bytes);
    auto_free void *memory = mem_zalloc(head.bytes);
    memcpy(memory, &head, sizeof head);
    handover_place(memory, &out);
    for (size_t i = 0; i < self->set_count; i++) {
        struct handover_set *row = &out.sets[i];
        row->kind = self->addresses[i].kind;
        row->internal = self->addresses[i].internal;
        row->count = self->sets[i].count;
        for (unsigned k = 0; k < self->sets[i].count; k++)
            row->fds[k] = self->sets[i].fds[k];
        memcpy(row->text, self->sets[i].text, sizeof row->text);
    }
    core_save(self->core, &out);
    return shm_publish("perigee-state", memory, head.bytes, ret_fd, err);
}

static int upgrade_snapshot(int *ret_fd, void *data, struct err *err)
{
    struct supervisor *self = data;
    return state_save(self, self->generation_last + 1, -1, "", ret_fd, err);
}

static void keep_open(int fd, void *data)
{
    (void)fcntl(fd, F_SETFD, *(const bool *)data ? 0 : FD_CLOEXEC);
}

static int state_keep(int state_fd, bool open, struct err *err)
{
    const void *memory;
    size_t bytes;
    struct handover state;
    int r = shm_map_published(state_fd, HANDOVER_BYTES_MAX, &memory, &bytes, err);
    if (r < 0)
        return r;
    r = handover_read((void *)(uintptr_t)memory, bytes, &state, err);
    if (r == 0)
        handover_each_fd(&state, keep_open, &open);
    shm_unmap((void *)(uintptr_t)memory, bytes);
    keep_open(state_fd, &open);
    return r;
}

/* argv as it was: who looks at processes sees the same command. */
static char **arguments_same(char *text, size_t room, size_t count_max)
{
    char **arguments = mem_zalloc((count_max + 1) * sizeof *arguments);
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? 0 : read(fd, text, room - 1);
    size_t count = 0;
    fd_close(&fd);
    for (char *at = text; size > 0 && at < text + size && count < count_max; at += strlen(at) + 1)
        arguments[count++] = at;
    if (count == 0)
        arguments[0] = "perigee";
    return arguments;
}

/* Returns only when it cannot be. */
static int become(struct supervisor *self, int binary_fd, uint32_t generation, int before_fd,
                  const char *text, struct err *err)
{
    enum { ARGUMENTS_MAX = 256, TEXT_BYTES = 64 * 1024 };
    int state = -1;
    int r = state_save(self, generation, before_fd, text, &state, err);
    if (r == 0)
        r = state_keep(state, true, err);
    if (r == 0) {
        auto_free char *words = mem_zalloc(TEXT_BYTES);
        auto_free char **arguments = arguments_same(words, TEXT_BYTES, ARGUMENTS_MAX);
        char number[16];
        (void)snprintf(number, sizeof number, "%d", state);
        (void)setenv(HANDOVER_ENVIRONMENT, number, 1);
        (void)fflush(NULL);
        (void)fexecve(binary_fd, arguments, environ);
        r = err_set(err, ERR_INTERNAL, "it cannot be run: %s", strerror(errno));
        (void)unsetenv(HANDOVER_ENVIRONMENT);
        struct err ignored;
        (void)!state_keep(state, false, &ignored);
    }
    fd_close(&state);
    return r;
}

static int upgrade_become(int binary_fd, void *data, struct err *err)
{
    struct supervisor *self = data;
    auto_close int before = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    return become(self, binary_fd, self->generation_last + 1, before, "", err);
}

const struct upgrade_host supervisor_upgrade_host = {
    .busy = upgrade_busy,
    .snapshot = upgrade_snapshot,
    .calm = upgrade_calm,
    .become = upgrade_become,
    .failed = upgrade_failed,
};

static void upgrade_over(struct supervisor *self, uint32_t state, const char *text)
{
    fd_close(&self->before_fd);
    if (state == UPGRADE_DONE)
        self->upgrades_done++;
    else
        self->upgrades_failed++;
    upgrade_say(self, state, text);
    self->back_text[0] = '\0'; /* which `text` may be */
}

/* The core's word on its processes. What failed half way is taken back by the program before. */
void supervisor_on_upgrade(struct supervisor *self, uint32_t state, const char *text)
{
    char all[1100];
    if (state == UPGRADE_STEP) {
        log_info("supervisor", "upgrade", LOG_S("step", text));
        upgrade_say(self, state, text);
    } else if (state == UPGRADE_DONE && self->back_text[0]) {
        log_error("supervisor", "the upgrade failed, the version before serves",
                  LOG_S("why", self->back_text));
        upgrade_over(self, UPGRADE_FAILED, self->back_text);
    } else if (state == UPGRADE_DONE) {
        log_info("supervisor", "the upgrade is done", LOG_S("version", PERIGEE_VERSION));
        upgrade_over(self, state, text);
    } else if (self->before_fd >= 0 && !self->stops) {
        log_error("supervisor", "the upgrade failed, going back", LOG_S("why", text));
        (void)snprintf(self->back_text, sizeof self->back_text, "%s", text);
        self->back_due = true;
    } else {
        (void)snprintf(all, sizeof all, "%s%s%s", self->back_text,
                       self->back_text[0] ? "; then " : "", text);
        log_error("supervisor", "the upgrade failed", LOG_S("why", all));
        upgrade_over(self, state, all);
    }
}

void supervisor_go_back(struct supervisor *self)
{
    struct err err = {};
    char all[1100];
    if (self->stops || !core_calm(self->core)) {
        self->back_due = !self->stops;
        return; /* it comes by here again: with what it waits for, at the latest */
    }
    self->back_due = false;
    int r = become(self, self->before_fd, self->generation_before, -1, self->back_text, &err);
    (void)snprintf(all, sizeof all, "%s; and going back failed: %s", self->back_text,
                   r < 0 ? err.message : "?");
    log_error("supervisor", "the upgrade failed", LOG_S("why", all));
    upgrade_over(self, UPGRADE_FAILED, all);
}
