/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/registry.h"

#include "common/record.h"
#include "dvkd/privilege.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* A slot that was bound at least once. */
struct slot_record {
    uint32_t generation; /* of the last binding */
    struct endpoint *endpoint;
};

struct dc_slots {
    uint32_t dc;
    uint32_t cursor;     /* registry_free_slot goes on below it */
    uint32_t floor;      /* generations of new slots are above */
    uint32_t bound;      /* endpoints bound now */
    uint32_t newest;     /* greatest generation given out */
    bool forgotten;      /* free it when the last endpoint goes */
    struct table slots;  /* slot -> struct slot_record */
};

void registry_init(struct registry *registry, uint32_t first_generation) {
    *registry = (struct registry){.first_generation = first_generation ? first_generation : 1};
    list_init(&registry->contexts);
}

static void dc_slots_free(struct registry *registry, struct dc_slots *dc) {
    size_t cursor = 0;
    struct slot_record *record;
    while ((record = table_next(&dc->slots, &cursor)))
        free(record);
    /* a later DC with the same id starts above all that was given out in this one */
    if (registry->first_generation <= dc->newest)
        registry->first_generation = dc->newest + 1;
    table_free(&dc->slots);
    table_remove(&registry->dcs, (uint64_t)dc->dc + 1);
    free(dc);
}

void registry_destroy(struct registry *registry) {
    struct context *context;
    list_for_each(context, &registry->contexts, link) registry_context_remove(registry, context);
    for (;;) {
        size_t cursor = 0;
        struct dc_slots *dc = table_next(&registry->dcs, &cursor);
        if (!dc)
            break;
        dc_slots_free(registry, dc);
    }
    table_free(&registry->dcs);
    table_free(&registry->channels);
}

/* One that nobody had for as long as possible: somebody may still wait for the last who had it. */
static uint32_t place_take(struct registry *registry) {
    for (uint32_t tries = 0; tries < DVK_WAITS_PLACES; tries++) {
        uint32_t place = registry->last_place = (registry->last_place + 1) % DVK_WAITS_PLACES;
        if (place == 0 || registry->places[place / 64] >> (place % 64) & 1)
            continue;
        registry->places[place / 64] |= 1ull << (place % 64);
        return place;
    }
    return 0;
}

struct context *registry_context_add(struct registry *registry, enum context_role role, uint32_t dc, void *user) {
    struct context *context = calloc(1, sizeof *context);
    if (!context)
        return NULL;
    *context = (struct context){.id = ++registry->last_context, .role = role, .dc = dc, .doorbell_fd = -1, .user = user};
    list_init(&context->endpoints);
    list_init(&context->channels);
    list_init(&context->kept);
    context->place = place_take(registry);
    list_append(&registry->contexts, &context->link);
    return context;
}

struct context *registry_context_find(struct registry *registry, uint64_t id) {
    struct context *context;
    list_for_each(context, &registry->contexts, link) if (context->id == id) return context;
    return NULL;
}

void registry_context_remove(struct registry *registry, struct context *context) {
    while (!list_empty(&context->endpoints))
        registry_unbind(registry, list_entry(context->endpoints.next, struct endpoint, context_link));
    while (!list_empty(&context->channels))
        registry_channel_remove(registry, list_entry(context->channels.next, struct channel_end, link)->channel);
    privileges_context_gone(context);
    if (context->doorbell_fd >= 0)
        close(context->doorbell_fd);
    if (context->place)
        registry->places[context->place / 64] &= ~(1ull << (context->place % 64));
    list_remove(&context->link);
    free(context);
}

static struct dc_slots *dc_slots_get(const struct registry *registry, uint32_t dc) {
    return table_get(&registry->dcs, (uint64_t)dc + 1);
}

static struct dc_slots *dc_slots_make(struct registry *registry, uint32_t dc) {
    struct dc_slots *slots = dc_slots_get(registry, dc);
    if (slots)
        return slots;
    slots = calloc(1, sizeof *slots);
    if (!slots)
        return NULL;
    slots->dc = dc;
    if (table_set(&registry->dcs, (uint64_t)dc + 1, slots) < 0) {
        free(slots);
        return NULL;
    }
    return slots;
}

static struct slot_record *slot_make(struct registry *registry, struct dc_slots *dc, uint32_t slot) {
    uint32_t floor = dc->floor > registry->floor ? dc->floor : registry->floor;
    struct slot_record *record = table_get(&dc->slots, slot);
    if (record) {
        if (!record->endpoint && record->generation < floor) /* another node may have had it meanwhile */
            record->generation = floor;
        return record;
    }
    record = calloc(1, sizeof *record);
    if (!record)
        return NULL;
    record->generation = registry->first_generation - 1 > floor ? registry->first_generation - 1 : floor;
    if (table_set(&dc->slots, slot, record) < 0) {
        free(record);
        return NULL;
    }
    return record;
}

static int64_t clock_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000ll + now.tv_nsec / 1000000;
}

/* What registry_bind binds; its fields from `wanted`. generation 0: the slot's next. */
static int bind_as(struct registry *registry, const struct endpoint *wanted, struct endpoint **out) {
    struct dc_slots *slots = dc_slots_make(registry, wanted->dc);
    struct slot_record *record = slots ? slot_make(registry, slots, wanted->slot) : NULL;
    if (!record)
        return -ENOMEM;
    if (record->endpoint)
        return -DVK_ESLOTBUSY;
    struct endpoint *endpoint = calloc(1, sizeof *endpoint);
    if (!endpoint)
        return -ENOMEM;
    *endpoint = *wanted;
    int result = privileges_bind(wanted->context, endpoint);
    if (result < 0) {
        free(endpoint);
        return result;
    }
    if (wanted->generation == 0 && (endpoint->generation = record->generation + 1) == 0) /* 0 means "any" in an address */
        endpoint->generation = 1;
    if (endpoint->generation > record->generation || wanted->generation == 0)
        record->generation = endpoint->generation;
    if (record->generation > slots->newest)
        slots->newest = record->generation;
    endpoint->since_ms = clock_ms();
    record->endpoint = endpoint;
    slots->bound++;
    slots->forgotten = false;
    list_append(&wanted->context->endpoints, &endpoint->context_link);
    record(RECORD_BIND, wanted->dc, endpoint_address(endpoint), wanted->context->id, wanted->guest);
    *out = endpoint;
    if (registry->changed)
        registry->changed(registry->changed_context, endpoint, true);
    return 0;
}

int registry_bind(struct registry *registry, struct context *context, uint32_t dc, uint32_t slot, bool guest,
                  struct endpoint **out) {
    const struct endpoint wanted = {.context = context, .dc = dc, .slot = slot, .guest = guest};
    return bind_as(registry, &wanted, out);
}

int registry_adopt(struct registry *registry, struct context *context, uint32_t dc, dvk_endpoint address, uint32_t revision) {
    const struct endpoint wanted = {.context = context,
                                    .dc = dc,
                                    .slot = dvk_endpoint_slot(address),
                                    .generation = dvk_endpoint_generation(address),
                                    .revision = revision};
    struct endpoint *endpoint;
    return bind_as(registry, &wanted, &endpoint);
}

void registry_unbind(struct registry *registry, struct endpoint *endpoint) {
    record(RECORD_UNBIND, endpoint->dc, endpoint_address(endpoint), endpoint->context->id);
    if (endpoint->channel)
        registry_channel_remove(registry, endpoint->channel);
    struct dc_slots *dc = dc_slots_get(registry, endpoint->dc);
    struct slot_record *record = table_get(&dc->slots, endpoint->slot);
    record->endpoint = NULL;
    dc->bound--;
    list_remove(&endpoint->context_link);
    if (registry->changed)
        registry->changed(registry->changed_context, endpoint, false);
    privileges_unbind(endpoint->context, endpoint);
    free(endpoint);
    if (dc->forgotten && dc->bound == 0)
        dc_slots_free(registry, dc);
}

uint32_t registry_bound(const struct registry *registry, uint32_t dc) {
    const struct dc_slots *slots = dc_slots_get(registry, dc);
    return slots ? (uint32_t)slots->bound : 0;
}

struct endpoint *registry_find(const struct registry *registry, uint32_t dc, uint32_t slot) {
    const struct dc_slots *slots = dc_slots_get(registry, dc);
    const struct slot_record *record = slots ? table_get(&slots->slots, slot) : NULL;
    return record ? record->endpoint : NULL;
}

struct endpoint *registry_find_endpoint(const struct registry *registry, uint32_t dc, dvk_endpoint address) {
    struct endpoint *endpoint = registry_find(registry, dc, dvk_endpoint_slot(address));
    uint32_t generation = dvk_endpoint_generation(address);
    return endpoint && (generation == 0 || generation == endpoint->generation) ? endpoint : NULL;
}

uint32_t registry_free_slot(struct registry *registry, uint32_t dc, bool (*is_ours)(const void *context, uint32_t set),
                            const void *context) {
    struct dc_slots *slots = dc_slots_make(registry, dc);
    if (!slots)
        return 0;
    uint32_t slot = slots->cursor > DVK_FIRST_USER_SLOT ? slots->cursor - 1 : DVK_USER_SLOTS - 1;
    for (uint32_t tried = 0; tried < DVK_USER_SLOTS;) {
        uint32_t above = slot - slot % DVK_SLOT_SET; /* the set's lowest */
        bool ours = is_ours(context, slot / DVK_SLOT_SET);
        for (; slot + 1 > above; slot--, tried++)
            if (ours && !registry_find(registry, dc, slot)) {
                slots->cursor = slot;
                return slot;
            }
        if (slot < DVK_FIRST_USER_SLOT)
            slot = DVK_USER_SLOTS - 1;
    }
    return 0;
}

bool registry_set_is_bound(const struct registry *registry, uint32_t dc, uint32_t set) {
    for (uint32_t i = 0; i < DVK_SLOT_SET; i++)
        if (registry_find(registry, dc, set * DVK_SLOT_SET + i))
            return true;
    return false;
}

uint32_t registry_newest(const struct registry *registry, uint32_t dc) {
    const struct dc_slots *slots = dc_slots_get(registry, dc);
    return !slots ? 0 : slots->newest > slots->floor ? slots->newest : slots->floor;
}

void registry_raise(struct registry *registry, uint32_t dc, uint32_t generation) {
    struct dc_slots *slots = dc_slots_make(registry, dc);
    if (slots && slots->floor < generation)
        slots->floor = generation;
}

void registry_note_time(struct registry *registry, uint64_t seconds) {
    if (seconds <= UINT32_MAX && registry->first_generation < seconds)
        registry->first_generation = (uint32_t)seconds;
}

void registry_new_view(struct registry *registry, uint64_t seconds, uint64_t view) {
    uint64_t floor = seconds + view * REGISTRY_VIEW_STEP;
    if (floor < UINT32_MAX && registry->floor < floor)
        registry->floor = (uint32_t)floor;
}

void registry_forget_dc(struct registry *registry, uint32_t dc) {
    struct dc_slots *slots = dc_slots_get(registry, dc);
    if (!slots)
        return;
    if (slots->bound == 0)
        dc_slots_free(registry, slots);
    else
        slots->forgotten = true;
}

struct channel *registry_channel_add(struct registry *registry, uint32_t dc, struct context *a, struct context *b,
                                     struct endpoint *guest, int memfd) {
    struct channel *channel = calloc(1, sizeof *channel);
    if (!channel || table_set(&registry->channels, registry->last_channel + 1, channel) < 0) {
        free(channel);
        close(memfd);
        return NULL;
    }
    *channel = (struct channel){
        .id = ++registry->last_channel, .dc = dc, .memfd = memfd, .party = {a, b}, .guest = guest};
    for (int side = 0; side < 2; side++) {
        channel->end[side].channel = channel;
        list_init(&channel->end[side].link);
        if (!guest)
            list_append(&channel->party[side]->channels, &channel->end[side].link);
    }
    if (guest)
        guest->channel = channel;
    return channel;
}

struct channel *registry_channel_between(const struct context *a, const struct context *b, uint32_t dc,
                                         uint32_t *side) {
    /* both lists at once: a client of a server with thousands of others has few itself */
    const struct list *at_a = a->channels.next, *at_b = b->channels.next;
    for (; at_a != &a->channels && at_b != &b->channels; at_a = at_a->next, at_b = at_b->next) {
        struct channel *const both[2] = {list_entry(at_a, struct channel_end, link)->channel,
                                         list_entry(at_b, struct channel_end, link)->channel};
        for (int i = 0; i < 2; i++) {
            uint32_t ours = both[i]->party[0] == a ? 0 : 1;
            if (both[i]->dc != dc || both[i]->party[ours] != a || both[i]->party[1 - ours] != b)
                continue;
            *side = ours;
            return both[i];
        }
    }
    return NULL;
}

struct channel *registry_channel_find(const struct registry *registry, uint64_t id) {
    return table_get(&registry->channels, id);
}

void registry_channel_remove(struct registry *registry, struct channel *channel) {
    table_remove(&registry->channels, channel->id);
    list_remove(&channel->end[0].link);
    list_remove(&channel->end[1].link);
    if (channel->guest)
        channel->guest->channel = NULL;
    close(channel->memfd);
    free(channel);
}
