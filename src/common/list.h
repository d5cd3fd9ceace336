/* SPDX-License-Identifier: Apache-2.0 */
/* Doubly linked lists that live inside their elements. A struct list is a head or a link; an unlinked link points at itself. */
#ifndef COMMON_LIST_H
#define COMMON_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *list) { list->next = list->prev = list; }
static inline bool list_empty(const struct list *list) { return list->next == list; }
/* Append `link` at the end of `head`'s list. */
static inline void list_append(struct list *head, struct list *link) {
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}
/* Take a link out of whatever list it is in; harmless on an unlinked one. */
static inline void list_remove(struct list *link) {
    link->prev->next = link->next;
    link->next->prev = link->prev;
    list_init(link);
}

#define list_entry(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
/* The loop body may remove (and free) `item`, but no other element. */
#define list_for_each(item, head, member)                                                                              \
    for (struct list *item##_at = (head)->next, *item##_after = item##_at->next;                                       \
         item##_at != (head) && ((item) = list_entry(item##_at, __typeof__(*(item)), member), true);                   \
         item##_at = item##_after, item##_after = item##_at->next)
#define list_first(head, type, member) (list_empty(head) ? NULL : list_entry((head)->next, type, member))

#endif
