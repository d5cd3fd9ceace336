/* SPDX-License-Identifier: Apache-2.0 */
#include "dvk/service_internal.h"

#include <dvk/group.h>
#include <stdlib.h>

int dvk_group_join(struct dvk *dvk, dvk_endpoint from, const char *name, uint64_t *group, int timeout_ms) {
    if (!name || !*name)
        return -EINVAL;
    struct service_thing *thing = service_thing_new(dvk, from, name);
    if (!thing)
        return strlen(name) > DVK_SERVICE_NAME_MAX ? -EINVAL : -ENOMEM;
    struct dvk_service_head head = {.op = DVK_SERVICE_OP_GROUP_JOIN};
    int error = service_do(dvk, from, &head, name, NULL, timeout_ms);
    if (error < 0) {
        service_thing_free(thing);
        return error;
    }
    *group = thing->number = head.number;
    return 0;
}

int dvk_group_leave(struct dvk *dvk, uint64_t group, int timeout_ms) {
    const struct service_thing *thing = service_thing_find(dvk, group);
    struct dvk_service_head head = {.op = DVK_SERVICE_OP_GROUP_LEAVE, .number = group};
    return thing ? service_do(dvk, thing->from, &head, NULL, NULL, timeout_ms) : -DVK_ENOTMEMBER;
}

int dvk_group_mcast(struct dvk *dvk, uint64_t group, const struct dvk_message *message, const void *data, size_t len,
                    int timeout_ms) {
    const struct service_thing *thing = service_thing_find(dvk, group);
    if (!thing)
        return -DVK_ENOTMEMBER;
    if (len > DVK_GROUP_DATA_MAX)
        return -EMSGSIZE;
    if (len && !data)
        return -EINVAL;
    struct {
        struct dvk_service_message head;
        uint8_t data[DVK_GROUP_DATA_MAX];
    } value;
    value.head = (struct dvk_service_message){.type = message->type};
    memcpy(value.head.payload, message->payload.bytes, sizeof value.head.payload);
    if (len)
        memcpy(value.data, data, len);
    struct dvk_service_head head = {.op = DVK_SERVICE_OP_GROUP_CAST,
                                    .number = group,
                                    .value_len = (uint32_t)(sizeof value.head + len)};
    int error = service_do(dvk, thing->from, &head, NULL, &value, timeout_ms);
    struct own_endpoint *own = error == 0 ? own_find(dvk, thing->from) : NULL;
    if (own)
        own->stats->casts++;
    return error;
}

int dvk_group_view_of(const struct dvk_request *request, struct dvk_group_view *view) {
    if (!request->group || request->group_event != DVK_GROUP_VIEW)
        return -EINVAL;
    *view = (struct dvk_group_view){.number = request->msg.payload.words[0],
                                    .flags = (uint32_t)request->msg.payload.words[1],
                                    .count = (uint32_t)request->msg.payload.words[2],
                                    .members = request->data};
    return 0;
}
