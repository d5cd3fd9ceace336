/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoints: the address of a process inside a distributed container (DC).
 *
 * An endpoint is (generation, slot) in one 64-bit value. It says nothing about the node where the
 * process runs. The generation grows each time a slot is bound anew, so an old address never
 * reaches another process. Endpoints are unique within their DC for ever.
 *
 * Slots:
 *   1 .. DVK_USER_SLOTS-1     user slots. In a DC that runs a VOS, slot == pid == host pid in the cell.
 *                             Slots 1..63 belong to the cells themselves and are never bound but for each
 *                             cell's zygote (DVK_ZYGOTE_SLOT, by a guest bind, not unique in the DC); the rest
 *                             are owned by nodes in sets of DVK_SLOT_SET, which change hands (dvk/slots.h).
 *   DVK_SYSTEM_SLOT(n, s)     service s on node n (pm, fs, tty, ...). These are well known: a generation
 *                             of 0 in a destination means "whichever incarnation is bound now".
 */
#ifndef DVK_ENDPOINT_H
#define DVK_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t dvk_endpoint;

#define DVK_NONE ((dvk_endpoint)0)
#define DVK_ANY (~(dvk_endpoint)0)
#define DVK_SLOT_ANY 0u

#define DVK_USER_SLOTS (1u << 20)
#define DVK_FIRST_USER_SLOT 64u
#define DVK_ZYGOTE_SLOT 63u /* each cell's zygote: a guest bind of it is allowed in every context of a cell, one at a time */
#define DVK_SLOT_SET 64u
#define DVK_SYSTEM_BASE (1u << 24)
#define DVK_MAX_NODE 384u /* node ids are 1..DVK_MAX_NODE */
#define DVK_MAX_DC 4096u  /* DC ids are 1..DVK_MAX_DC; DC 0 is the DVK's own (dvkd to dvkd) */

enum dvk_service {
    DVK_SERVICE_KERNEL = 0, /* dvkd itself */
    DVK_SERVICE_PM = 1,
    DVK_SERVICE_FS = 2,
    DVK_SERVICE_TTY = 3,
    DVK_SERVICE_NET = 4,
    DVK_SERVICE_IPC = 5,
    DVK_SERVICE_BLK = 6,
    DVK_SERVICE_COPY = 255, /* copies between address spaces: dvk/vcopy.h */
    DVK_SERVICE_MAX = 256,
};

static inline dvk_endpoint dvk_endpoint_make(uint32_t generation, uint32_t slot) {
    return (uint64_t)generation << 32 | slot;
}
static inline uint32_t dvk_endpoint_slot(dvk_endpoint ep) { return (uint32_t)ep; }
static inline uint32_t dvk_endpoint_generation(dvk_endpoint ep) { return (uint32_t)(ep >> 32); }

static inline bool dvk_slot_is_system(uint32_t slot) { return slot >= DVK_SYSTEM_BASE; }
static inline bool dvk_slot_is_user(uint32_t slot) {
    return slot >= DVK_FIRST_USER_SLOT && slot < DVK_USER_SLOTS;
}
static inline uint32_t dvk_system_slot(uint32_t node, uint32_t service) {
    return DVK_SYSTEM_BASE + node * DVK_SERVICE_MAX + service;
}
static inline uint32_t dvk_system_slot_node(uint32_t slot) {
    return (slot - DVK_SYSTEM_BASE) / DVK_SERVICE_MAX;
}
static inline uint32_t dvk_system_slot_service(uint32_t slot) {
    return (slot - DVK_SYSTEM_BASE) % DVK_SERVICE_MAX;
}
/* The well-known address of a service on a node. */
static inline dvk_endpoint dvk_service_endpoint(uint32_t node, uint32_t service) {
    return dvk_endpoint_make(0, dvk_system_slot(node, service));
}

#endif
