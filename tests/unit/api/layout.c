/* SPDX-License-Identifier: Apache-2.0 */
/* Prints sizes, offsets and numbers of the public API, one "name value" a line: layout.py compares python/dvk.py with them. */
#include <dvk/dvk.h>
#include <stdio.h>

#define SIZE(type) printf("sizeof %s %zu\n", #type, sizeof(struct type))
#define FIELD(type, member) printf("%s.%s %zu\n", #type, #member, offsetof(struct type, member))
#define NUMBER(name) printf("%s %llu\n", #name, (unsigned long long)(DVK_##name))

int main(void) {
    SIZE(dvk_message);
    FIELD(dvk_message, source);
    FIELD(dvk_message, destination);
    FIELD(dvk_message, type);
    FIELD(dvk_message, status);
    FIELD(dvk_message, data_len);
    FIELD(dvk_message, flags);
    FIELD(dvk_message, fds);
    FIELD(dvk_message, notify);
    FIELD(dvk_message, reserved);
    FIELD(dvk_message, payload);
    SIZE(dvk_request);
    FIELD(dvk_request, msg);
    FIELD(dvk_request, dc);
    FIELD(dvk_request, data);
    FIELD(dvk_request, reply_data);
    FIELD(dvk_request, reply_cap);
    FIELD(dvk_request, wants_reply);
    FIELD(dvk_request, cancelled);
    FIELD(dvk_request, local);
    FIELD(dvk_request, source_node);
    FIELD(dvk_request, fds);
    FIELD(dvk_request, fd_count);
    FIELD(dvk_request, user);
    FIELD(dvk_request, user_key);
    FIELD(dvk_request, group);
    FIELD(dvk_request, group_event);
    SIZE(dvk_event);
    FIELD(dvk_event, type);
    FIELD(dvk_event, dc);
    FIELD(dvk_event, node);
    FIELD(dvk_event, endpoint);
    FIELD(dvk_event, id);
    FIELD(dvk_event, text);
    FIELD(dvk_event, fds);
    FIELD(dvk_event, fd_count);
    NUMBER(NONE), NUMBER(ANY), NUMBER(SLOT_ANY), NUMBER(USER_SLOTS), NUMBER(FIRST_USER_SLOT), NUMBER(SYSTEM_BASE);
    NUMBER(MAX_NODE), NUMBER(MAX_DC), NUMBER(SERVICE_MAX), NUMBER(MESSAGE_SIZE), NUMBER(PAYLOAD_SIZE), NUMBER(DATA_MAX);
    NUMBER(MESSAGE_FDS), NUMBER(EVENT_ENDPOINT_GONE), NUMBER(EVENT_NODE_UP), NUMBER(EVENT_NODE_DOWN), NUMBER(EVENT_DC_GONE);
    NUMBER(EVENT_CONTROL), NUMBER(ENOTBOUND), NUMBER(EDEADSRC), NUMBER(EDEADDST), NUMBER(ENODC), NUMBER(ENODEUNREACH);
    NUMBER(ENOTALLOWED), NUMBER(EDEADLOCK), NUMBER(ETIMEDOUT), NUMBER(EINTERRUPTED), NUMBER(EMIGRATING), NUMBER(ENOSLOT);
    NUMBER(ESLOTBUSY), NUMBER(EBADPEER), NUMBER(ENOQUORUM), NUMBER(ENODAEMON), NUMBER(EVERSION);
    return 0;
}
