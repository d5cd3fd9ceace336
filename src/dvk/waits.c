/* SPDX-License-Identifier: Apache-2.0 */
/* The table of waits of each DC that we are bound in: see waits.h. Without it only pairs are found (sync.c). */
#include "dvk/waits.h"
#include "dvk/internal.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define ASK_TIMEOUT_MS 30000

struct waits {
    struct link link; /* dvk.waits */
    uint32_t dc, place;
    uint32_t ticket; /* of the last wait */
    struct dvk_wait *table;
};

static struct waits *waits_find(struct dvk *dvk, uint32_t dc) {
    list_each(waits, &dvk->wait_tables, struct waits, link) {
        if (waits->dc == dc)
            return waits;
    }
    return NULL;
}

void waits_open(struct dvk *dvk, uint32_t dc) {
    if (waits_find(dvk, dc))
        return;
    struct dvk_broker_packet ask = {.type = DVK_BROKER_WAITS, .dc = dc};
    struct packet answer;
    struct stat st;
    int error = broker_ask_wait(dvk, &ask, NULL, 0, &answer, deadline_of(ASK_TIMEOUT_MS));
    struct waits *waits = error == 0 ? calloc(1, sizeof *waits) : NULL;
    if (waits && answer.fd_count == 1 && answer.head.place && answer.head.place < DVK_WAITS_PLACES &&
        fstat(answer.fds[0], &st) == 0 && st.st_size >= (off_t)DVK_WAITS_SIZE) {
        void *table = mmap(NULL, DVK_WAITS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, answer.fds[0], 0);
        if (table != MAP_FAILED) {
            waits->dc = dc;
            waits->place = answer.head.place;
            waits->table = table;
            waits->ticket = __atomic_load_n(&waits->table[waits->place].answered, __ATOMIC_RELAXED);
            list_append(&dvk->wait_tables, &waits->link);
            waits = NULL;
        }
    }
    free(waits);
    packet_clear(&answer);
}

static void waits_free(struct waits *waits) {
    list_remove(&waits->link);
    munmap(waits->table, DVK_WAITS_SIZE);
    free(waits);
}

void waits_forget(struct dvk *dvk, uint32_t dc) {
    struct waits *waits = waits_find(dvk, dc);
    if (waits)
        waits_free(waits);
}

void waits_close(struct dvk *dvk) {
    struct waits *waits;
    while ((waits = list_first(&dvk->wait_tables, struct waits, link)))
        waits_free(waits);
}

/* Where the channel's peer stands; NULL: it is in no table. */
static struct waits *waits_with(struct dvk *dvk, const struct channel *channel) {
    return channel->place && channel->place < DVK_WAITS_PLACES ? waits_find(dvk, channel->dc) : NULL;
}

uint32_t waits_ticket(struct dvk *dvk, const struct channel *channel) {
    struct waits *waits = waits_with(dvk, channel);
    if (waits && ++waits->ticket == 0)
        waits->ticket = 1;
    return waits ? waits->ticket : 1;
}

bool waits_begin(struct dvk *dvk, const struct channel *channel, uint32_t ticket) {
    struct waits *waits = waits_with(dvk, channel);
    if (!waits)
        return false;
    dvk_wait_begin(waits->table, waits->place, channel->place, ticket);
    return dvk_wait_is_circle(waits->table, waits->place);
}

void waits_end(struct dvk *dvk, const struct channel *channel) {
    struct waits *waits = waits_with(dvk, channel);
    if (waits)
        dvk_wait_end(waits->table, waits->place);
}

void waits_answered(struct dvk *dvk, const struct channel *channel, uint32_t ticket) {
    struct waits *waits = waits_with(dvk, channel);
    if (waits)
        dvk_wait_answered(waits->table, channel->place, ticket);
}
