/* SPDX-License-Identifier: Apache-2.0 */
/* The tables in which a DC's processes on this node say for whom they wait (dvk/waits.h): made when the first asks, shared by
 * all that are bound in the DC but guests. */
#include "dvk/waits.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "dvkd/broker_private.h"

#include <dvk/error.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct wait_table {
    int fd;
};

static int table_make(struct broker *broker, uint32_t dc, struct wait_table **out) {
    cleanup_close int fd = memfd_create("dvk-waits", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)DVK_WAITS_SIZE) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    struct wait_table *table = malloc(sizeof *table);
    if (!table || table_set(&broker->wait_tables, (uint64_t)dc + 1, table) < 0) {
        free(table);
        return -ENOMEM;
    }
    table->fd = steal_fd(&fd);
    *out = table;
    return 0;
}

static bool is_bound(const struct context *context, uint32_t dc) {
    struct endpoint *endpoint;
    list_for_each(endpoint, &context->endpoints, context_link) if (endpoint->dc == dc && !endpoint->guest) return true;
    return false;
}

void broker_waits(struct client *client, const struct dvk_broker_packet *packet) {
    struct broker *broker = client->broker;
    const struct context *context = client->context;
    struct wait_table *table = table_get(&broker->wait_tables, (uint64_t)packet->dc + 1);
    int result = !is_bound(context, packet->dc) || !context->place ? -DVK_ENOTALLOWED : 0;
    if (result == 0 && !table)
        result = table_make(broker, packet->dc, &table);
    struct dvk_broker_packet answer = client_answer(packet, result);
    answer.place = context->place;
    client_send(client, &answer, NULL, result == 0 ? &table->fd : NULL, result == 0 ? 1 : 0);
}

uint32_t broker_waits_of(const struct broker *broker, uint32_t dc, uint32_t place) {
    const struct wait_table *table = table_get(&broker->wait_tables, (uint64_t)dc + 1);
    struct dvk_wait wait;
    if (!table || place == 0 || place >= DVK_WAITS_PLACES ||
        pread(table->fd, &wait, sizeof wait, (off_t)(place * sizeof wait)) != sizeof wait)
        return 0;
    return (uint32_t)(dvk_wait_look(&wait, 0) >> 32);
}

void broker_waits_drop(struct broker *broker, uint32_t dc) {
    struct wait_table *table = table_remove(&broker->wait_tables, (uint64_t)dc + 1);
    if (table)
        close(table->fd);
    free(table);
}

void broker_waits_free(struct broker *broker) {
    for (;;) {
        size_t cursor = 0;
        struct wait_table *table = table_next(&broker->wait_tables, &cursor);
        if (!table)
            break;
        broker_waits_drop(broker, (uint32_t)(broker->wait_tables.entries[cursor - 1].key - 1));
    }
    table_free(&broker->wait_tables);
}
