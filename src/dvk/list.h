/* SPDX-License-Identifier: Apache-2.0 */
/* Doubly linked lists with the links inside the elements. A list is a struct link that points to itself when empty. */
#ifndef DVK_LIST_H
#define DVK_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct link {
    struct link *next, *prev;
};

static inline void list_init(struct link *list) {
    list->next = list->prev = list;
}
static inline bool list_is_empty(const struct link *list) {
    return list->next == list;
}
/* Is this element (list_init'ed) in a list? */
static inline bool list_has(const struct link *element) {
    return element->next != element;
}
static inline void list_append(struct link *list, struct link *element) {
    element->prev = list->prev;
    element->next = list;
    list->prev->next = element;
    list->prev = element;
}
static inline void list_prepend(struct link *list, struct link *element) {
    list_append(list->next, element);
}
/* Allowed for an element that is in no list. */
static inline void list_remove(struct link *element) {
    element->prev->next = element->next;
    element->next->prev = element->prev;
    list_init(element);
}
/* Move all of `from` to the end of `to`. */
static inline void list_splice(struct link *to, struct link *from) {
    if (list_is_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#define list_element(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))
#define list_first(list, type, member) (list_is_empty(list) ? NULL : list_element((list)->next, type, member))
/* The element under the cursor may be removed in the body; no other may. */
#define list_each(cursor, list, type, member)                                                                          \
    for (type *cursor = list_element((list)->next, type, member),                                                      \
              *cursor##_next = list_element(cursor->member.next, type, member);                                        \
         &cursor->member != (list);                                                                                    \
         cursor = cursor##_next, cursor##_next = list_element(cursor->member.next, type, member))

#endif
