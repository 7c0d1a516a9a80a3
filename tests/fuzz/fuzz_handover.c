/* SPDX-License-Identifier: Apache-2.0 */
/* The state that a supervisor leaves to the next program: what is taken stays
 * within its bytes. An input is one as it is, or else edits of a right one made
 * here, which grows with the structs. */
#include "supervisor/handover.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "supervisor/core_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LOOPS = 2, LOG_BYTES = 100 };

static void fill_replica(struct handover_replica *row, int32_t *fd, bool dead)
{
    row->start = (struct message_replica_start)MESSAGE_INIT(MESSAGE_REPLICA_START);
    row->start.slots = row->start.concurrency = row->start.threads = row->start.batch_max = 2;
    row->exited = (struct message_replica_exited)MESSAGE_INIT(MESSAGE_REPLICA_EXITED);
    row->log_written = row->log_bytes = LOG_BYTES;
    row->state = dead ? REPLICA_DEAD : REPLICA_CLONING;
    row->template = dead ? -1 : HANDOVER_ROLES;
    row->revision = dead ? -1 : 0;
    row->submission_fd = row->output_fd = row->model_fd = row->log_fd = row->log_write_fd = -1;
    memset(row->pipes, -1, sizeof row->pipes);
    memset(row->pipe_writes, -1, sizeof row->pipe_writes);
    if (dead)
        return;
    row->submission_fd = ++*fd;
    row->output_fd = ++*fd;
    row->model_fd = ++*fd;
    row->log_fd = ++*fd;
    row->log_write_fd = ++*fd;
    for (size_t i = 0; i < 2 * LOOPS; i++) {
        row->pipes[i] = ++*fd;
        row->pipe_writes[i] = ++*fd;
    }
}

/* A template, a set, an arena, a replica that is being cloned and one that is
 * dead, and what two others used. */
static char *right_one(size_t *ret_size)
{
    static const uint32_t roles[] = { ROLE_GATEWAY, ROLE_GATEWAY, ROLE_AGENT,
                                      ROLE_CONTROL, ROLE_DNS,     ROLE_TEMPLATE };
    struct handover_head head = { .process_count = 6,
                                  .set_count = 1,
                                  .revision_count = 1,
                                  .replica_count = 1,
                                  .dead_count = 1,
                                  .used_count = 2,
                                  .log_bytes = 2 * LOG_BYTES,
                                  .lock_fd = 3,
                                  .lifeline_fds = { 4, 5 },
                                  .metrics_fd = 6,
                                  .table_fd = 7,
                                  .socket_fd = -1,
                                  .client_fd = -1,
                                  .before_fd = -1,
                                  .dns_metrics_fd = 8,
                                  .table = MESSAGE_INIT(MESSAGE_TABLE_NEW),
                                  .start = MESSAGE_INIT(MESSAGE_START) };
    struct handover out;
    int32_t fd = 10;
    head.start.role = ROLE_GATEWAY;
    head.start.loops = LOOPS;
    handover_seal(&head);
    char *memory = mem_zalloc(head.bytes);
    memcpy(memory, &head, sizeof head);
    handover_place(memory, &out);
    for (uint32_t i = 0; i < head.process_count; i++) {
        bool lives = i != 1; /* no second gateway */
        out.processes[i].role = roles[i];
        out.processes[i].state = lives ? PROCESS_SERVING : PROCESS_IDLE;
        out.processes[i].pid = lives ? 100 + (int32_t)i : 0;
        out.processes[i].channel_fd = lives ? ++fd : -1;
    }
    out.sets[0].kind = LISTENER_GATEWAY;
    out.sets[0].count = 1;
    out.sets[0].fds[0] = ++fd;
    out.revisions[0].arena_fd = ++fd;
    fill_replica(&out.replicas[0], &fd, false);
    fill_replica(&out.replicas[1], &fd, true);
    for (uint32_t i = 0; i < head.used_count; i++)
        out.used[i] = (struct message_replica_used)MESSAGE_INIT(MESSAGE_REPLICA_USED);
    *ret_size = head.bytes;
    return memory;
}

static void count(int fd, void *data)
{
    assert(fd >= 3);
    ++*(size_t *)data;
}

static void look(char *memory, size_t size, bool right)
{
    struct handover in;
    struct err err = {};
    size_t fds = 0, logs = 0;
    int r = handover_read(memory, size, &in, &err);
    assert(r == 0 || !right);
    if (r < 0) {
        assert((r == ERR_BAD_INPUT || r == ERR_PRECONDITION) && err.message[0]);
        return;
    }
    handover_each_fd(&in, count, &fds);
    assert(fds >= 4);
    for (uint32_t i = 0; i < in.head->process_count; i++)
        assert(strlen(in.processes[i].name) < sizeof in.processes[i].name);
    for (uint32_t i = 0; i < in.head->replica_count + in.head->dead_count; i++)
        logs += in.replicas[i].log_bytes;
    for (uint32_t i = 0; i < in.head->used_count; i++)
        assert(in.used[i].head.type == MESSAGE_REPLICA_USED);
    assert(in.logs + logs == memory + size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { EDIT = 4 }; /* three bytes of where, one to be there */
    size_t right_size;
    if (size >= sizeof HANDOVER_MAGIC && memcmp(data, HANDOVER_MAGIC, 8) == 0) {
        char *memory = mem_alloc(size); /* aligned, as a mapping is */
        memcpy(memory, data, size);
        look(memory, size, false);
        free(memory);
        return 0;
    }
    char *memory = right_one(&right_size);
    for (size_t i = 0; i + EDIT <= size; i += EDIT) {
        size_t at = data[i] | (size_t)data[i + 1] << 8 | (size_t)data[i + 2] << 16;
        memory[at % right_size] = (char)data[i + 3];
    }
    look(memory, right_size, size < EDIT);
    free(memory);
    return 0;
}
