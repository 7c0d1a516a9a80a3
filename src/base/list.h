/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list.h -- doubly linked list whose links live inside the objects. Owns nothing. No lock.
 *
 *     struct list waiting;  list_init(&waiting);
 *     list_append(&waiting, &waiter->link);
 *     struct waiter *first = LIST_FIRST(&waiting, struct waiter, link);     NULL when empty
 *     LIST_EACH (waiter, &waiting, struct waiter, link) { ... it may be removed or freed ... }
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *previous; /* a link out of any list points at itself */
};

#define LIST_OWNER(pointer, type, member)                                                          \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline void list_init(struct list *list)
{
    list->next = list->previous = list;
}

static inline bool list_empty(const struct list *list)
{
    return list->next == list;
}

static inline void list_insert_after(struct list *place, struct list *link)
{
    link->next = place->next;
    link->previous = place;
    place->next->previous = link;
    place->next = link;
}

static inline void list_append(struct list *list, struct list *link)
{
    list_insert_after(list->previous, link);
}

static inline void list_prepend(struct list *list, struct list *link)
{
    list_insert_after(list, link);
}

static inline void list_remove(struct list *link) /* again is harmless */
{
    link->next->previous = link->previous;
    link->previous->next = link->next;
    list_init(link);
}

/* All of `from`, in their order, become those of `to`, which had none or was not initialised. */
static inline void list_take_all(struct list *to, struct list *from)
{
    list_insert_after(from, to);
    list_remove(from);
}

#define LIST_FIRST(list, type, member)                                                             \
    (list_empty(list) ? NULL : LIST_OWNER((list)->next, type, member))

/* `item` is the name of a variable: such loops may stand inside each other. */
#define LIST_EACH(item, head, type, member)                                                        \
    for (struct list *item##_at_ = (head)->next, *item##_then_ = item##_at_->next;                 \
         item##_at_ != (head) && ((item) = LIST_OWNER(item##_at_, type, member), true);            \
         item##_at_ = item##_then_, item##_then_ = item##_at_->next)
