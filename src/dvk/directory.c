/* SPDX-License-Identifier: Apache-2.0 */
/* What there is: DCs by name, their nodes. */
#include "dvk/internal.h"

#include <stdlib.h>

#define ASK_TIMEOUT_MS 5000
#define NAME_MAX_LEN 63u

int dvk_find_dc(struct dvk *dvk, const char *name, uint32_t *dc) {
    if (!name || !*name || strlen(name) > NAME_MAX_LEN)
        return -EINVAL;
    struct dvk_broker_packet ask = {.type = DVK_BROKER_DC_FIND};
    struct packet answer;
    int error = broker_ask_text(dvk, &ask, name, NULL, 0, &answer, deadline_of(ASK_TIMEOUT_MS));
    if (error == 0)
        *dc = answer.head.dc;
    packet_clear(&answer);
    return error;
}

int dvk_dc_nodes(struct dvk *dvk, uint32_t dc, uint32_t *nodes, size_t cap) {
    struct dvk_broker_packet ask = {.type = DVK_BROKER_DC_NODES, .dc = dc};
    struct packet answer;
    int error = broker_ask_wait(dvk, &ask, NULL, 0, &answer, deadline_of(ASK_TIMEOUT_MS));
    size_t count = error == 0 && answer.text ? answer.head.text_len / sizeof *nodes : 0;
    if (count && cap)
        memcpy(nodes, answer.text, (count < cap ? count : cap) * sizeof *nodes);
    packet_clear(&answer);
    return error < 0 ? error : (int)count;
}

void own_forget_dc(struct dvk *dvk, uint32_t dc) {
    for (unsigned i = 0; i < BUCKETS; i++)
        list_each(own, &dvk->own[i], struct own_endpoint, bucket) {
            if (own->dc != dc)
                continue;
            migrate_unfreeze(dvk, own);
            list_remove(&own->bucket);
            dvk->own_count--;
            dvk->own_changes++;
            own_routes_drop(dvk, own, -DVK_ENODC);
            stats_unbind(dvk, own);
            free(own->privileges);
            free(own);
        }
    moved_forget(dvk, dc, DVK_ANY);
    waits_forget(dvk, dc);
}
