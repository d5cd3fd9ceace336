/* SPDX-License-Identifier: Apache-2.0 */
/* Prints sizes, offsets and numbers of the public API, one "name value" a line: layout.py compares python/dvk.py with them. */
#include <dvk/detector.h>
#include <dvk/group.h>
#include <dvk/loan.h>
#include <dvk/primitives.h>
#include <dvk/privilege.h>
#include <dvk/service.h>
#include <dvk/stats.h>
#include <dvk/vcopy.h>
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
    SIZE(dvk_area);
    FIELD(dvk_area, endpoint), FIELD(dvk_area, grant), FIELD(dvk_area, offset);
    SIZE(dvk_group_member);
    FIELD(dvk_group_member, endpoint), FIELD(dvk_group_member, node);
    SIZE(dvk_group_view);
    FIELD(dvk_group_view, number), FIELD(dvk_group_view, flags), FIELD(dvk_group_view, count), FIELD(dvk_group_view, members);
    SIZE(dvk_kv);
    FIELD(dvk_kv, key), FIELD(dvk_kv, value), FIELD(dvk_kv, len), FIELD(dvk_kv, revision), FIELD(dvk_kv, created);
    FIELD(dvk_kv, changes), FIELD(dvk_kv, deleted), FIELD(dvk_kv, gap);
    SIZE(dvk_lock);
    FIELD(dvk_lock, handle), FIELD(dvk_lock, token);
    SIZE(dvk_leader);
    FIELD(dvk_leader, endpoint), FIELD(dvk_leader, node), FIELD(dvk_leader, token), FIELD(dvk_leader, text);
    SIZE(dvk_node_state);
    FIELD(dvk_node_state, node), FIELD(dvk_node_state, since_ms);
    SIZE(dvk_endpoint_info);
    FIELD(dvk_endpoint_info, endpoint), FIELD(dvk_endpoint_info, dc), FIELD(dvk_endpoint_info, node), FIELD(dvk_endpoint_info, backups);
    SIZE(dvk_stats);
    FIELD(dvk_stats, sendrecs), FIELD(dvk_stats, completed), FIELD(dvk_stats, bytes_out), FIELD(dvk_stats, bytes_in);
    FIELD(dvk_stats, requests_in), FIELD(dvk_stats, casts_in), FIELD(dvk_stats, replies), FIELD(dvk_stats, withdrawn);
    FIELD(dvk_stats, casts), FIELD(dvk_stats, loans), FIELD(dvk_stats, posts_failed), FIELD(dvk_stats, errors);
    SIZE(dvk_stats_now);
    FIELD(dvk_stats_now, pending), FIELD(dvk_stats_now, unanswered), FIELD(dvk_stats_now, queued), FIELD(dvk_stats_now, untaken);
    SIZE(dvk_endpoint_stats);
    FIELD(dvk_endpoint_stats, endpoint), FIELD(dvk_endpoint_stats, since_ms), FIELD(dvk_endpoint_stats, pid);
    FIELD(dvk_endpoint_stats, now), FIELD(dvk_endpoint_stats, total);
    SIZE(dvk_dc_stats);
    FIELD(dvk_dc_stats, missing), FIELD(dvk_dc_stats, endpoints), FIELD(dvk_dc_stats, connects), FIELD(dvk_dc_stats, total);
    SIZE(dvk_node_stats);
    FIELD(dvk_node_stats, since_ms), FIELD(dvk_node_stats, processes), FIELD(dvk_node_stats, changes), FIELD(dvk_node_stats, total);
    SIZE(dvk_dc_info);
    FIELD(dvk_dc_info, kind), FIELD(dvk_dc_info, sets), FIELD(dvk_dc_info, endpoints), FIELD(dvk_dc_info, name);
    SIZE(dvk_dc_node);
    FIELD(dvk_dc_node, node), FIELD(dvk_dc_node, up), FIELD(dvk_dc_node, sets);
    SIZE(dvk_peers_range);
    FIELD(dvk_peers_range, first), FIELD(dvk_peers_range, last);
    SIZE(dvk_peers);
    FIELD(dvk_peers, flags), FIELD(dvk_peers, count), FIELD(dvk_peers, ranges);
    SIZE(dvk_privileges);
    FIELD(dvk_privileges, calls), FIELD(dvk_privileges, to), FIELD(dvk_privileges, from);
    NUMBER(MAY_SEND), NUMBER(MAY_SENDREC), NUMBER(MAY_NOTIFY), NUMBER(MAY_RELAY), NUMBER(MAY_GRANT), NUMBER(MAY_COPY);
    NUMBER(MAY_GROUP), NUMBER(MAY_SERVICE), NUMBER(MAY_MIGRATE), NUMBER(MAY_BIND), NUMBER(MAY_PRIVILEGE), NUMBER(MAY_ALL);
    NUMBER(PEERS_ALL), NUMBER(PEERS_SERVERS), NUMBER(PEERS_RANGES);
    NUMBER(STATS_TIMED_OUT), NUMBER(STATS_DEAD), NUMBER(STATS_UNREACHABLE), NUMBER(STATS_NOT_BOUND), NUMBER(STATS_REFUSED);
    NUMBER(STATS_INTERRUPTED), NUMBER(STATS_BROKEN), NUMBER(STATS_OTHER), NUMBER(STATS_COUNTED), NUMBER(STATS_GUEST);
    NUMBER(DC_BARE), NUMBER(DC_VOS);
    NUMBER(LOAN_MAX), NUMBER(GRANT_READ), NUMBER(GRANT_WRITE), NUMBER(GRANT_SHARE), NUMBER(GRANT_OWN), NUMBER(GROUP_DATA_MAX);
    NUMBER(GROUP_MEMBERS_MAX), NUMBER(GROUP_MESSAGE), NUMBER(GROUP_VIEW), NUMBER(GROUP_QUORATE), NUMBER(GROUP_OUT);
    NUMBER(KEY_MAX), NUMBER(KV_VALUE_MAX), NUMBER(KV_ANY), NUMBER(KV_NONE), NUMBER(STALE), NUMBER(TRY), NUMBER(VALUES);
    NUMBER(EVENT_LOST), NUMBER(EVENT_PROMOTED), NUMBER(EVENT_BACKUP_GONE), NUMBER(EVENT_MIGRATE_ENDED), NUMBER(ENOTGRANTED);
    NUMBER(EREVOKED), NUMBER(EOUTOFGRANT), NUMBER(ECONFLICT), NUMBER(ENOKEY), NUMBER(EUNKNOWN), NUMBER(ELOST);
    NUMBER(ENOTMEMBER), NUMBER(EGAP), NUMBER(ENOBACKUP), NUMBER(ENOTMIGRATING), NUMBER(ENOTCARRIED);
    NUMBER(NONE), NUMBER(ANY), NUMBER(SLOT_ANY), NUMBER(USER_SLOTS), NUMBER(FIRST_USER_SLOT), NUMBER(SYSTEM_BASE);
    NUMBER(MAX_NODE), NUMBER(MAX_DC), NUMBER(SERVICE_MAX), NUMBER(MESSAGE_SIZE), NUMBER(PAYLOAD_SIZE), NUMBER(DATA_MAX);
    NUMBER(MESSAGE_FDS), NUMBER(EVENT_ENDPOINT_GONE), NUMBER(EVENT_NODE_UP), NUMBER(EVENT_NODE_DOWN), NUMBER(EVENT_DC_GONE);
    NUMBER(EVENT_CONTROL), NUMBER(ENOTBOUND), NUMBER(EDEADSRC), NUMBER(EDEADDST), NUMBER(ENODC), NUMBER(ENODEUNREACH);
    NUMBER(ENOTALLOWED), NUMBER(EDEADLOCK), NUMBER(ETIMEDOUT), NUMBER(EINTERRUPTED), NUMBER(EMIGRATING), NUMBER(ENOSLOT);
    NUMBER(ESLOTBUSY), NUMBER(EBADPEER), NUMBER(ENOQUORUM), NUMBER(ENODAEMON), NUMBER(EVERSION);
    return 0;
}
