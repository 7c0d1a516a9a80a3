/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/handover.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "supervisor/core_private.h"

enum { FD_FIRST = 3, FD_MAX = 1 << 24, DEAD_KEPT_MAX = DEAD_MAX + 1 };

static_assert(sizeof(struct handover_head) % 8 == 0 && sizeof(struct handover_process) % 8 == 0 &&
              sizeof(struct handover_set) % 8 == 0 && sizeof(struct handover_revision) % 8 == 0 &&
              sizeof(struct handover_replica) % 8 == 0 &&
              sizeof(struct handover_project) % 8 == 0 &&
              sizeof(struct message_replica_used) % 8 == 0);

static uint64_t project_count(const struct handover_head *head)
{
    return head->flags & HANDOVER_PROJECTS
               ? head->process_count - HANDOVER_ROLES + head->revision_count
               : 0;
}

/* Counts are bounded before this is asked of a head that was read. */
uint64_t handover_bytes(const struct handover_head *head)
{
    return sizeof *head + head->process_count * sizeof(struct handover_process) +
           head->set_count * sizeof(struct handover_set) +
           head->revision_count * sizeof(struct handover_revision) +
           ((uint64_t)head->replica_count + head->dead_count) * sizeof(struct handover_replica) +
           head->used_count * sizeof(struct message_replica_used) +
           project_count(head) * sizeof(struct handover_project) + head->log_bytes;
}

void handover_place(void *memory, struct handover *ret)
{
    struct handover_head *head = memory;
    ret->head = head;
    ret->processes = (void *)(head + 1);
    ret->sets = (void *)(ret->processes + head->process_count);
    ret->revisions = (void *)(ret->sets + head->set_count);
    ret->replicas = (void *)(ret->revisions + head->revision_count);
    ret->used = (void *)(ret->replicas + head->replica_count + head->dead_count);
    ret->projects = (void *)(ret->used + head->used_count);
    ret->logs = (void *)(ret->projects + project_count(head));
    if (project_count(head) == 0)
        ret->projects = NULL;
}

uint32_t handover_back_flags(uint32_t flags_before)
{
    return HANDOVER_BACK |
           (flags_before & HANDOVER_READS_PROJECTS ? 0u : (uint32_t)HANDOVER_NO_PROJECTS);
}

void handover_seal(struct handover_head *head)
{
    memcpy(head->magic, HANDOVER_MAGIC, sizeof head->magic);
    head->version = HANDOVER_VERSION;
    head->head_bytes = sizeof *head;
    head->bytes = handover_bytes(head);
}

/* ---- descriptors ---------------------------------------------------------------------------- */

static void each_of(const int32_t *fds, size_t count, void (*each)(int fd, void *data), void *data)
{
    for (size_t i = 0; i < count; i++)
        if (fds[i] != -1)
            each(fds[i], data);
}

void handover_each_fd(const struct handover *handover, void (*each)(int fd, void *data), void *data)
{
    const struct handover_head *head = handover->head;
    const int32_t own[] = { head->lock_fd,    head->lifeline_fds[0], head->lifeline_fds[1],
                            head->metrics_fd, head->table_fd,        head->socket_fd,
                            head->client_fd,  head->before_fd,       head->dns_metrics_fd };
    each_of(own, sizeof own / sizeof *own, each, data);
    for (uint32_t i = 0; i < head->process_count; i++)
        each_of(&handover->processes[i].channel_fd, 1, each, data);
    for (uint32_t i = 0; i < head->set_count; i++)
        each_of(handover->sets[i].fds, handover->sets[i].count, each, data);
    for (uint32_t i = 0; i < head->revision_count; i++)
        each_of(&handover->revisions[i].arena_fd, 1, each, data);
    for (uint32_t i = 0; i < head->replica_count + head->dead_count; i++) {
        const struct handover_replica *row = &handover->replicas[i];
        const int32_t fds[] = { row->submission_fd, row->output_fd, row->model_fd, row->log_fd,
                                row->log_write_fd };
        each_of(fds, sizeof fds / sizeof *fds, each, data);
        each_of(row->pipes, PERIGEE_LANES_MAX, each, data);
        each_of(row->pipe_writes, PERIGEE_LANES_MAX, each, data);
    }
}

struct fd_list {
    int *fds;
    size_t count, room;
};

static void fd_note(int fd, void *data)
{
    struct fd_list *list = data;
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 256;
        list->fds = mem_resize(list->fds, list->room, sizeof *list->fds);
    }
    list->fds[list->count++] = fd;
}

static int fd_compare(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

static int check_fds(const struct handover *handover, struct err *err)
{
    struct fd_list list = {};
    int r = 0;
    handover_each_fd(handover, fd_note, &list);
    if (list.count)
        qsort(list.fds, list.count, sizeof *list.fds, fd_compare);
    for (size_t i = 0; i < list.count && r == 0; i++) {
        if (list.fds[i] < FD_FIRST || list.fds[i] > FD_MAX)
            r = err_set(err, ERR_BAD_INPUT, "descriptor %d cannot be", list.fds[i]);
        else if (i && list.fds[i] == list.fds[i - 1])
            r = err_set(err, ERR_BAD_INPUT, "descriptor %d comes twice", list.fds[i]);
    }
    free(list.fds);
    return r;
}

/* ---- rows ----------------------------------------------------------------------------------- */

static bool ended(const char *text, size_t room)
{
    return memchr(text, 0, room) != NULL;
}

#define ENDED(array) ended((array), sizeof(array))

static int check_message(const void *bytes, size_t size, size_t fds, uint16_t type, struct err *err)
{
    union message message = {};
    memcpy(&message, bytes, size);
    int r = message_check(&message, size, fds, err);
    if (r == 0 && message.head.type != type)
        r = err_set(err, ERR_BAD_INPUT, "%s in the place of %s", message_name(message.head.type),
                    message_name(type));
    return r;
}

static int check_head(const struct handover_head *head, struct err *err)
{
    if (head->gateway > 1)
        return err_set(err, ERR_BAD_INPUT, "of two gateways the one that serves is %u",
                       head->gateway);
    if (head->lock_fd < 0 || head->lifeline_fds[0] < 0 || head->lifeline_fds[1] < 0 ||
        head->metrics_fd < 0 || head->dns_metrics_fd < 0 || !ENDED(head->text))
        return err_set(err, ERR_BAD_INPUT, "the head is not whole");
    if (head->netns_pid < 0 || head->netns_pid == 1)
        return err_set(err, ERR_BAD_INPUT, "process %d enters no networks", head->netns_pid);
    int r = check_message(&head->start, sizeof head->start, 0, MESSAGE_START, err);
    if (r == 0 && head->table_fd >= 0)
        r = check_message(&head->table, sizeof head->table, 1, MESSAGE_TABLE_NEW, err);
    return r;
}

static int check_process(const struct handover_process *row, uint32_t index, struct err *err)
{
    static const uint32_t roles[] = { ROLE_GATEWAY, ROLE_GATEWAY, ROLE_AGENT, ROLE_CONTROL,
                                      ROLE_DNS };
    bool alive = row->state == PROCESS_STARTING || row->state == PROCESS_SERVING;
    if (row->role != (index < HANDOVER_ROLES ? roles[index] : (uint32_t)ROLE_TEMPLATE) ||
        row->state > PROCESS_WAITING || !ENDED(row->name) || !ENDED(row->runtime) ||
        !ENDED(row->library) || !ENDED(row->why) || !ENDED(row->walls_off))
        return err_set(err, ERR_BAD_INPUT, "process %u: role %u, state %u", index, row->role,
                       row->state);
    if (alive ? row->pid <= 1 || row->channel_fd < 0 : row->channel_fd != -1)
        return err_set(err, ERR_BAD_INPUT, "process %u: process id %d, descriptor %d", index,
                       row->pid, row->channel_fd);
    return 0;
}

static int check_set(const struct handover_set *row, uint32_t index, struct err *err)
{
    bool whole = row->kind >= LISTENER_GATEWAY && row->kind <= LISTENER_DNS && row->count > 0 &&
                 row->count <= LISTEN_SET_MAX && ENDED(row->text);
    for (uint32_t i = 0; whole && i < row->count; i++)
        whole = row->fds[i] >= 0;
    return whole ? 0 : err_set(err, ERR_BAD_INPUT, "listening set %u is not whole", index);
}

static bool replica_whole(const struct handover_replica *row, bool dead, uint32_t lanes)
{
    if (dead)
        return row->state == REPLICA_DEAD;
    bool running = row->state == REPLICA_RUNNING, cloning = row->state <= REPLICA_CLONING;
    if ((!running && !cloning) || row->submission_fd < 0 || row->output_fd < 0 || row->log_fd < 0 ||
        (running && row->pid <= 1) || (cloning && (row->model_fd < 0 || row->log_write_fd < 0)))
        return false;
    for (uint32_t i = 0; i < lanes; i++)
        if (row->pipes[i] < 0 || (cloning && row->pipe_writes[i] < 0))
            return false;
    return true;
}

static int check_replica(const struct handover *handover, uint32_t index, struct err *err)
{
    const struct handover_head *head = handover->head;
    const struct handover_replica *row = &handover->replicas[index];
    bool dead = index >= head->replica_count;
    bool template_right =
        row->template >= HANDOVER_ROLES && (uint32_t)row->template <head->process_count;
    bool revision_right = row->revision >= 0 && (uint32_t)row->revision < head->revision_count;
    if (!replica_whole(row, dead, 2 * head->start.loops) ||
        (!dead && (!template_right || !revision_right)) || row->uid_index > REPLICAS_MAX + 1 ||
        row->end >= REPLICA_ENDS || !ENDED(row->end_text) || !ENDED(row->walls_off) ||
        row->log_bytes > LOGRING_BYTES || row->log_bytes > row->log_written ||
        row->log_told > row->log_written)
        return err_set(err, ERR_BAD_INPUT, "replica %u is not whole", index);
    int r = check_message(&row->start, sizeof row->start, 1, MESSAGE_REPLICA_START, err);
    if (r == 0 && dead)
        r = check_message(&row->exited, sizeof row->exited, 0, MESSAGE_REPLICA_EXITED, err);
    return r < 0 ? err_wrap(err, "replica %u", index) : 0;
}

static int check_rows(const struct handover *handover, struct err *err)
{
    const struct handover_head *head = handover->head;
    uint64_t log_bytes = 0;
    int r = check_head(head, err);
    for (uint32_t i = 0; r == 0 && i < head->process_count; i++)
        r = check_process(&handover->processes[i], i, err);
    for (uint32_t i = 0; r == 0 && i < head->set_count; i++)
        r = check_set(&handover->sets[i], i, err);
    for (uint32_t i = 0; r == 0 && i < head->revision_count; i++)
        if (handover->revisions[i].arena_fd < 0)
            r = err_set(err, ERR_BAD_INPUT, "revision %u has no arena", i);
    for (uint32_t i = 0; r == 0 && i < head->replica_count + head->dead_count; i++) {
        r = check_replica(handover, i, err);
        log_bytes += handover->replicas[i].log_bytes;
    }
    for (uint32_t i = 0; r == 0 && i < head->used_count; i++)
        r = check_message(&handover->used[i], sizeof *handover->used, 0, MESSAGE_REPLICA_USED, err);
    for (uint64_t i = 0; r == 0 && i < project_count(head); i++)
        if (!ENDED(handover->projects[i].name))
            r = err_set(err, ERR_BAD_INPUT, "project %" PRIu64 " has no end", i);
    if (r == 0 && log_bytes != head->log_bytes)
        r = err_set(err, ERR_BAD_INPUT, "logs of %" PRIu64 " bytes in %" PRIu64, log_bytes,
                    head->log_bytes);
    return r < 0 ? r : check_fds(handover, err);
}

int handover_read(void *memory, size_t size, struct handover *ret, struct err *err)
{
    const struct handover_head *head = memory;
    if (size < offsetof(struct handover_head, bytes) ||
        memcmp(head->magic, HANDOVER_MAGIC, sizeof head->magic) != 0)
        return err_set(err, ERR_BAD_INPUT, "this is no state of a supervisor");
    if (head->version != HANDOVER_VERSION)
        return err_set(err, ERR_PRECONDITION,
                       "the state is of version %u, and this program reads version %u",
                       head->version, HANDOVER_VERSION);
    if (size < sizeof *head || head->head_bytes != sizeof *head || head->bytes != size ||
        size > HANDOVER_BYTES_MAX)
        return err_set(err, ERR_BAD_INPUT, "the state has %zu bytes, and should have others", size);
    if (head->process_count < HANDOVER_ROLES ||
        head->process_count > HANDOVER_ROLES + TEMPLATES_MAX ||
        head->set_count > HANDOVER_SETS_MAX || head->revision_count > REVISIONS_MAX ||
        head->replica_count > REPLICAS_MAX + 1 || head->dead_count > DEAD_KEPT_MAX ||
        head->used_count > USED_MAX || head->log_bytes > HANDOVER_BYTES_MAX ||
        handover_bytes(head) != size)
        return err_set(err, ERR_BAD_INPUT, "the state's rows do not fit its %zu bytes", size);
    handover_place(memory, ret);
    return check_rows(ret, err);
}
