/* SPDX-License-Identifier: Apache-2.0 */
/* Slots: include/dvk/slots.h as packets to and from dvkd. */
#include "dvk/internal.h"

#include <dvk/slots.h>
#include <stdio.h>
#include <stdlib.h>

#define GIVE_MAX 256u

int dvk_slots_watch(struct dvk *dvk, uint32_t dc, dvk_slots_fn *fn, void *context) {
    struct dvk_broker_packet head = {.type = DVK_BROKER_SLOTS, .side = DVK_BROKER_SLOTS_WATCH, .dc = dc};
    dvk->slots_fn = fn;
    dvk->slots_context = context;
    return broker_send(dvk, &head, NULL, NULL, 0);
}

int dvk_slots_take(struct dvk *dvk, uint32_t dc, uint32_t want, uint32_t below) {
    struct dvk_broker_packet head = {
        .type = DVK_BROKER_SLOTS, .side = DVK_BROKER_SLOTS_TAKE, .dc = dc, .node = want, .flags = below};
    return broker_send(dvk, &head, NULL, NULL, 0);
}

int dvk_slots_give(struct dvk *dvk, uint32_t dc, const uint16_t *sets, uint32_t count) {
    char text[GIVE_MAX * 10 + 1] = "";
    size_t used = 0;
    if (count > GIVE_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < count;) {
        uint32_t run = 1;
        while (i + run < count && sets[i + run] == sets[i] + run)
            run++;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%u+%u", i ? " " : "", sets[i], run);
        i += run;
    }
    struct dvk_broker_packet head = {.type = DVK_BROKER_SLOTS, .side = DVK_BROKER_SLOTS_GIVE, .dc = dc};
    return broker_send(dvk, &head, text, NULL, 0);
}

void slots_event(struct dvk *dvk, const struct packet *packet) {
    const struct dvk_broker_packet *head = &packet->head;
    struct dvk_slots_event event = {.dc = head->dc};
    switch (head->type) {
    case DVK_BROKER_SLOTS_TABLE:
        event.type = DVK_SLOTS_TABLE;
        event.sets = head->node;
        event.version = head->id;
        event.runs = (const struct dvk_slots_run *)(const void *)packet->text;
        event.run_count = head->text_len / (uint32_t)sizeof *event.runs;
        break;
    case DVK_BROKER_SLOTS_WANTED:
        event.type = DVK_SLOTS_WANTED;
        event.want = head->node;
        event.below = head->flags;
        break;
    case DVK_BROKER_SLOTS_SETTLED:
        event.type = DVK_SLOTS_SETTLED;
        break;
    default:
        event.type = DVK_SLOTS_ENDED;
        event.status = head->status;
    }
    if (dvk->slots_fn)
        dvk->slots_fn(dvk->slots_context, &event);
}
