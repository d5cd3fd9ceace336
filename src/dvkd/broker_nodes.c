/* SPDX-License-Identifier: Apache-2.0 */
/* Which nodes are up, since when (DVK_BROKER_NODES). */
#include "dvkd/broker_private.h"

#include <dvk/detector.h>
#include <stdlib.h>
#include <time.h>

int64_t broker_clock_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000ll + now.tv_nsec / 1000000;
}

int64_t broker_node_since(const struct broker *broker, uint32_t node) {
    const struct up_node *known;
    if (node == broker->node)
        return broker->since_ms;
    list_for_each(known, &broker->up_nodes, link) if (known->node == node) return known->since_ms;
    return 0;
}

void broker_nodes(struct client *client, const struct dvk_broker_packet *packet) {
    const struct broker *broker = client->broker;
    static struct dvk_node_state states[DVK_MAX_NODE];
    uint32_t count = 0;
    for (uint32_t node = 1; node <= DVK_MAX_NODE; node++) {
        int64_t since = broker_node_since(broker, node);
        if (since)
            states[count++] = (struct dvk_node_state){.node = node, .since_ms = since};
    }
    struct dvk_broker_packet answer = client_answer(packet, 0);
    answer.text_len = count * (uint32_t)sizeof *states;
    client_send(client, &answer, (const char *)states, NULL, 0);
}
