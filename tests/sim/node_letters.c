/* SPDX-License-Identifier: Apache-2.0 */
#include "node.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

int64_t node_draw(struct node *node, int64_t low, int64_t high)
{
    /* Not the world's own: chance of the test and of the world must not disturb each other. */
    uint64_t value;
    env_random(node->env, &value, sizeof value);
    return low + (int64_t)(value % (uint64_t)(high - low + 1));
}

bool node_maybe(struct node *node, unsigned percent)
{
    return node->chaos && node_draw(node, 1, 100) <= percent;
}

/* ---- letters --------------------------------------------------------------------------------- */

void letter_free(struct letter *letter)
{
    env_timer_stop(letter->node->env, &letter->timer);
    list_remove(&letter->link);
    fd_close(&letter->fd);
    free(letter);
}

static void on_letter(struct env_timer *, void *data)
{
    struct letter *letter = data;
    const struct role *role = &letter->node->roles[letter->role];
    if (role->alive && role->life == letter->life)
        letter_read(letter);
    letter_free(letter);
}

struct letter *letter_new(struct node *node, enum to to, uint32_t role, int64_t delay_ns)
{
    struct letter *letter = mem_zalloc(sizeof *letter);
    int64_t now_ns = env_now_ns(node->env), at_ns = now_ns + delay_ns;
    if (at_ns < node->last_ns[to])
        at_ns = node->last_ns[to];
    node->last_ns[to] = at_ns;
    letter->node = node;
    letter->to = to;
    letter->role = role;
    letter->life = node->roles[role].life;
    letter->watch = node->watch;
    letter->fd = -1;
    list_append(&node->letters, &letter->link);
    env_timer_start(node->env, &letter->timer, at_ns - now_ns, on_letter, letter);
    return letter;
}

void message_send(struct node *node, enum to to, uint32_t role, const void *message, size_t size,
                  int fd)
{
    struct letter *letter = letter_new(node, to, role, node_draw(node, 10, 500) * ENV_US);
    memcpy(&letter->message, message, size);
    letter->size = size;
    letter->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
}
