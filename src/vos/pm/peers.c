/* SPDX-License-Identifier: Apache-2.0 */
/* The other pms of the DC: how to reach them, how a process is found, and how a pm joins and is lost. */
#include "common/log.h"
#include "vos/pm/host.h"
#include "vos/pm/pm.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define JOIN_RETRY_MS 200u
#define RECENT_MS 1000
#define MOVED_BATCH 4096u

/* ---- nodes ---- */

int peer_index(const struct pm *pm, uint32_t node) {
    uint32_t low = 0, high = pm->vos->node_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (pm->vos->nodes[middle].id == node)
            return (int)middle;
        if (pm->vos->nodes[middle].id < node)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

bool peer_is_up(const struct pm *pm, uint32_t node) {
    int index = peer_index(pm, node);
    return node == pm->vos->node || (index >= 0 && pm->vos->nodes[index].up);
}

static bool index_is_active(const struct pm *pm, uint32_t index) {
    return index == pm->index || (pm->peers[index].active && pm->vos->nodes[index].up);
}

bool peer_is_active(const struct pm *pm, uint32_t node) {
    int index = peer_index(pm, node);
    return index >= 0 && index_is_active(pm, (uint32_t)index);
}

unsigned peers_active(const struct pm *pm, uint32_t *nodes) {
    unsigned count = 0;
    for (uint32_t i = 0; i < pm->vos->node_count; i++) {
        if (i == pm->index || !index_is_active(pm, i))
            continue;
        if (nodes)
            nodes[count] = pm->vos->nodes[i].id;
        count++;
    }
    return count;
}

/* Index of the home if the node with index `assumed` (or -1) were active too. */
static uint32_t home_index(const struct pm *pm, uint32_t pid, int assumed) {
    uint32_t owner = slots_owner(&pm->slots, pid);
    int at = owner ? peer_index(pm, owner) : -1;
    uint32_t index = at >= 0 ? (uint32_t)at : pid / DVK_SLOT_SET % pm->vos->node_count;
    while (!index_is_active(pm, index) && (int)index != assumed)
        index = (index + 1) % pm->vos->node_count;
    return index;
}

uint32_t peer_home(const struct pm *pm, uint32_t pid) { return pm->vos->nodes[home_index(pm, pid, -1)].id; }

uint32_t peer_route(struct pm *pm, uint32_t pid) {
    struct slot_entry *entry = pm_entry(pm, pid);
    if (entry && entry->child && !entry->child->zombie && entry->child->node != pm->vos->node && peer_is_up(pm, entry->child->node))
        return entry->child->node;
    if (entry && entry->away_node && peer_is_up(pm, entry->away_node))
        return entry->away_node;
    if (!dvk_slot_is_user(pid) || pid >= pm->vos->slot_limit)
        return 0;
    uint32_t home = peer_home(pm, pid);
    return home == pm->vos->node ? 0 : home;
}

void peer_note_load(struct pm *pm, uint32_t node, uint32_t load) {
    int index = peer_index(pm, node);
    if (index >= 0)
        pm->peers[index].load = load;
}

void peer_seen(struct pm *pm, const struct dvk_message *reply) {
    uint32_t slot = dvk_endpoint_slot(reply->source);
    if (dvk_slot_is_system(slot) && dvk_system_slot_service(slot) == DVK_SERVICE_PM)
        peer_note_load(pm, dvk_system_slot_node(slot), (uint32_t)reply->payload.words[PM_REPLY_LOAD_WORD]);
}

/* ---- calls ---- */

int peer_call(struct pm *pm, uint32_t node, uint32_t type, void *payload, size_t payload_len, const void *data, size_t len,
              dvk_done *done, void *context) {
    struct pm_head *head = payload;
    head->version = PM_REMOTE_VERSION;
    head->load = place_load(pm);
    struct dvk_message message = {.destination = vos_service(node, DVK_SERVICE_PM), .type = type, .data_len = (uint32_t)len};
    memcpy(message.payload.bytes, payload, payload_len);
    return dvk_call(pm->vos->dvk, pm->vos->self[DVK_SERVICE_PM], &message, data, len, NULL, 0, done ? done : pm_ignore_done, context, NULL);
}

unsigned peers_call_all(struct pm *pm, uint32_t type, void *payload, size_t payload_len, dvk_done *done, void *context) {
    unsigned asked = 0;
    for (uint32_t i = 0; i < pm->vos->node_count; i++)
        if (i != pm->index && index_is_active(pm, i) &&
            peer_call(pm, pm->vos->nodes[i].id, type, payload, payload_len, NULL, 0, done, context) == 0)
            asked++;
    return asked;
}

void peer_answer(struct pm *pm, struct dvk_request *req, int status, uint64_t w0, uint64_t w1) {
    struct dvk_message reply = {.status = status};
    reply.payload.words[0] = w0;
    reply.payload.words[1] = w1;
    reply.payload.words[PM_REPLY_LOAD_WORD] = place_load(pm);
    pm_answer_message(pm, req, &reply, NULL, 0);
}

/* The answer to a relayed request: words and data as they came. A DVK error means that the node is gone, and so is the process. */
static void relay_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                       unsigned fd_count) {
    struct pending *pending = context;
    struct dvk_request *req = pending->req;
    pm_close_fds(fds, fd_count);
    struct dvk_message answer = {.status = -ESRCH};
    if (status == 0) {
        peer_seen(pending->pm, reply);
        answer.status = reply->status;
        answer.payload = reply->payload;
        answer.data_len = len < req->reply_cap ? (uint32_t)len : req->reply_cap;
        if (answer.data_len)
            memcpy(req->reply_data, data, answer.data_len);
    }
    pm_answer_message(pending->pm, req, &answer, NULL, 0);
    free(pending);
}

void peer_relay(struct pm *pm, uint32_t pid, struct dvk_request *req, uint32_t type, void *payload, size_t payload_len) {
    uint32_t node = peer_route(pm, pid);
    struct pm_head *head = payload;
    if (!node || head->hops >= PM_MAX_HOPS) {
        pm_answer(pm, req, -ESRCH, 0, 0, 0);
        return;
    }
    struct pending *pending = pending_new(pm, req, NULL);
    int result = pending ? peer_call(pm, node, type, payload, payload_len, NULL, 0, relay_done, pending) : -ENOMEM;
    if (result < 0) {
        free(pending);
        pm_answer(pm, req, result == -ENOMEM ? -ENOMEM : -ESRCH, 0, 0, 0);
    }
}

void peer_forward(struct pm *pm, uint32_t pid, struct dvk_request *req) {
    uint8_t payload[DVK_PAYLOAD_SIZE];
    memcpy(payload, req->msg.payload.bytes, sizeof(payload));
    struct pm_head *head = (struct pm_head *)payload;
    head->hops++;
    peer_relay(pm, pid, req, req->msg.type, payload, sizeof(payload));
}

/* ---- where processes are ---- */

void peer_note_away(struct pm *pm, uint32_t pid, uint32_t node, uint32_t moves) {
    struct slot_entry *entry = pm_entry_make(pm, pid);
    if (!entry || entry->process)
        return;
    if (entry->away_node && entry->away_moves > moves && peer_is_up(pm, entry->away_node))
        return;
    if (entry->reserved)
        spare_discard(pm, pid);
    entry->away_node = node;
    entry->away_moves = moves;
    slots_mark(&pm->slots, pid);
}

void peer_note_gone(struct pm *pm, uint32_t pid) {
    struct slot_entry *entry = pm_entry(pm, pid);
    if (!entry || entry->process)
        return;
    entry->away_node = 0;
    if (!entry->husk && !entry->reserved)
        slots_give(&pm->slots, pid);
    pm_entry_trim(pm, pid);
}

void peer_release_pid(struct pm *pm, const struct process *process) {
    uint32_t home = peer_home(pm, process->pid);
    if (slots_is_own(&pm->slots, process->pid))
        slots_give(&pm->slots, process->pid);
    if (home == pm->vos->node)
        return;
    struct pm_s_moved gone = {.kind = PM_MOVED_GONE, .pid = process->pid, .node = pm->vos->node, .moves = process->moves};
    peer_call(pm, home, PM_S_MOVED, &gone, sizeof(gone), NULL, 0, NULL, NULL);
}

void pm_note_recent(struct pm *pm, const struct process *process) {
    pm->recent[pm->recent_next++ % PM_RECENT] =
        (struct recent){process->pid, process->pgid, process->sid, host_time_ms() + RECENT_MS};
}

static void moved_home(struct pm *pm, struct dvk_request *req, const struct pm_s_moved *moved) {
    size_t count = req->msg.data_len / sizeof(struct pm_moved_entry);
    const uint8_t *data = req->data;
    for (size_t i = 0; i < count && i < moved->count; i++) {
        struct pm_moved_entry entry;
        memcpy(&entry, data + i * sizeof(entry), sizeof(entry));
        if (dvk_slot_is_user(entry.pid))
            peer_note_away(pm, entry.pid, req->source_node, entry.moves);
    }
    peer_answer(pm, req, 0, 0, 0);
}

/* A child moves: decide whether it is still ours. */
static void moved_parent(struct pm *pm, struct dvk_request *req, const struct pm_s_moved *moved) {
    struct process *parent = moved->ppid == PM_INIT_PID ? pm->init : process_here(pm, moved->ppid);
    if (!parent) {
        peer_forward(pm, moved->ppid, req);
        return;
    }
    if (process_frozen(parent)) {
        pm_park(pm, &parent->parked, req);
        return;
    }
    struct child *child = child_find(pm, parent, moved->pid);
    if (parent->state == PROCESS_ZOMBIE || !process_is(parent, moved->birth)) {
        peer_answer(pm, req, -ESRCH, 0, 0);
    } else if (!child || child->zombie || !peer_is_active(pm, moved->node)) {
        peer_answer(pm, req, -ECHILD, 0, 0);
    } else {
        move_note_child(child, moved->node, moved->moves);
        peer_answer(pm, req, 0, 0, 0);
    }
}

static void moved_child(struct pm *pm, struct dvk_request *req, const struct pm_s_moved *moved) {
    struct process *process = process_here(pm, moved->pid);
    if (!process) {
        peer_forward(pm, moved->pid, req);
        return;
    }
    if (process_frozen(process)) {
        pm_park(pm, &process->parked, req);
        return;
    }
    bool ours = process->ppid == moved->ppid;
    if (ours)
        move_note_parent(process, moved->node, moved->moves);
    peer_answer(pm, req, ours ? 0 : -ECHILD, 0, 0);
    if (ours)
        exit_check_parent(pm, process); /* that node may be lost already */
}

void peer_handle_moved(struct pm *pm, struct dvk_request *req) {
    struct pm_s_moved moved;
    memcpy(&moved, req->msg.payload.bytes, sizeof(moved));
    switch (moved.kind) {
    case PM_MOVED_HOME:
        moved_home(pm, req, &moved);
        break;
    case PM_MOVED_PARENT:
        moved_parent(pm, req, &moved);
        break;
    case PM_MOVED_CHILD:
        moved_child(pm, req, &moved);
        break;
    case PM_MOVED_GONE:
        peer_note_gone(pm, moved.pid);
        spare_fill(pm);
        peer_answer(pm, req, 0, 0, 0);
        break;
    default:
        peer_answer(pm, req, -EPROTO, 0, 0);
    }
}

/* ---- sweeps (slots.h) ---- */

struct sweep {
    struct pm *pm;
    uint32_t set;
    uint64_t busy;
    unsigned pending;
};

static uint64_t slot_bit(uint32_t set, uint32_t slot) { return slot / DVK_SLOT_SET == set ? (uint64_t)1 << slot % DVK_SLOT_SET : 0; }

static uint64_t sweep_here(struct pm *pm, uint32_t set) {
    uint64_t busy = 0;
    for (uint32_t i = 0; i < DVK_SLOT_SET; i++) {
        struct slot_entry *entry = pm_entry(pm, set * DVK_SLOT_SET + i);
        if (entry && (entry->process || entry->child || entry->husk || entry->thread_of || entry->reserved))
            busy |= (uint64_t)1 << i;
    }
    struct process *process;
    list_for_each(process, &pm->processes, link)
        busy |= slot_bit(set, process->pgid) | slot_bit(set, process->sid);
    int64_t now = host_time_ms();
    for (unsigned i = 0; i < PM_RECENT; i++) {
        const struct recent *recent = &pm->recent[i];
        if (recent->until_ms > now)
            busy |= slot_bit(set, recent->pid) | slot_bit(set, recent->pgid) | slot_bit(set, recent->sid);
    }
    return busy;
}

static void sweep_end(struct sweep *sweep) {
    struct pm *pm = sweep->pm;
    sweep->busy |= sweep_here(pm, sweep->set); /* what was given out of it meanwhile, when it is our only set */
    for (uint32_t i = 0; i < DVK_SLOT_SET; i++) {
        uint32_t slot = sweep->set * DVK_SLOT_SET + i;
        if (sweep->busy >> i & 1)
            continue;
        slots_give(&pm->slots, slot);
        struct slot_entry *entry = pm_entry(pm, slot);
        if (entry)
            entry->away_node = 0;
        pm_entry_trim(pm, slot);
    }
    slots_swept(&pm->slots, sweep->set, sweep->busy);
    free(sweep);
    spare_fill(pm);
    tids_serve(pm);
}

static void sweep_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                       unsigned fd_count) {
    struct sweep *sweep = context;
    pm_close_fds(fds, fd_count);
    if (status == 0 && reply->status == 0)
        sweep->busy |= reply->payload.words[0];
    else if (status == 0) /* it could not say: take all for used */
        sweep->busy = UINT64_MAX;
    if (--sweep->pending == 0)
        sweep_end(sweep);
}

bool peers_sweep(struct pm *pm) {
    uint32_t set;
    if (!slots_sweep_wanted(&pm->slots, &set))
        return false;
    struct sweep *sweep = calloc(1, sizeof(*sweep));
    if (!sweep) {
        slots_swept(&pm->slots, set, UINT64_MAX);
        return true;
    }
    *sweep = (struct sweep){.pm = pm, .set = set, .busy = sweep_here(pm, set), .pending = 1};
    struct pm_s_relate ask = {.op = PM_RELATE_SWEEP, .set = set, .version = pm->slots.version};
    for (uint32_t i = 0; i < pm->vos->node_count; i++) {
        if (i == pm->index || !index_is_active(pm, i))
            continue;
        sweep->pending++;
        if (peer_call(pm, pm->vos->nodes[i].id, PM_S_RELATE, &ask, sizeof(ask), NULL, 0, sweep_done, sweep) < 0) {
            sweep->pending--;
            sweep->busy = UINT64_MAX;
        }
    }
    bool at_once = --sweep->pending == 0;
    if (at_once)
        sweep_end(sweep);
    return at_once;
}

/* What was seen to leave from here is forgotten: its home, who asks, knows where it is, and the numbers of those that have ended are given
 * out anew: old news of them would hide new ones, should we become the home of that set. */
static void answer_sweep(struct pm *pm, struct dvk_request *req, uint32_t set) {
    uint64_t busy = sweep_here(pm, set);
    for (uint32_t i = 0; i < DVK_SLOT_SET; i++) {
        struct slot_entry *entry = pm_entry(pm, set * DVK_SLOT_SET + i);
        if (entry)
            entry->away_node = 0;
        pm_entry_trim(pm, set * DVK_SLOT_SET + i);
    }
    peer_answer(pm, req, 0, busy, 0);
}

void peer_handle_relate(struct pm *pm, struct dvk_request *req) {
    struct pm_s_relate ask;
    memcpy(&ask, req->msg.payload.bytes, sizeof(ask));
    if (ask.op == PM_RELATE_GROUP)
        peer_answer(pm, req, 0, group_look_here(pm, ask.pgid, ask.sid), 0);
    else if (ask.op == PM_RELATE_SWEEP && pm->slots.version < ask.version)
        peer_answer(pm, req, -EAGAIN, 0, 0); /* we may still take processes over from a node that owned the set and is lost */
    else if (ask.op == PM_RELATE_SWEEP && ask.set < DVK_USER_SLOTS / DVK_SLOT_SET)
        answer_sweep(pm, req, ask.set);
    else
        peer_answer(pm, req, -EPROTO, 0, 0);
}

/* ---- joining ---- */

struct join {
    struct pm *pm;
    uint32_t node;
    uint32_t after;
};

static void join_send(struct join *join);

static void joins_check(struct pm *pm) {
    if (pm->joins_pending || pm->ready)
        return;
    pm->ready = true;
    spare_fill(pm);
    struct dvk_request *req;
    while ((req = pm_unpark(&pm->early)))
        pm_request(pm, req);
}

static void join_again(void *context) { join_send(context); }

static void join_end(struct join *join) {
    struct pm *pm = join->pm;
    free(join);
    pm->joins_pending--;
    joins_check(pm);
}

static void join_retry(struct join *join) {
    uint64_t id;
    if (!peer_is_up(join->pm, join->node) || dvk_timer(join->pm->vos->dvk, JOIN_RETRY_MS, join_again, join, &id) < 0)
        join_end(join);
}

static void join_start(struct pm *pm, uint32_t node) {
    struct join *join = calloc(1, sizeof(*join));
    if (!join) {
        log_error("out of memory; node %u is not told of this cell", node);
        return;
    }
    *join = (struct join){.pm = pm, .node = node};
    pm->joins_pending++;
    join_send(join);
}

/* The primary named the others that are active. */
static void join_others(struct pm *pm, const uint64_t *words) {
    for (uint32_t i = 0; i < pm->vos->node_count; i++) {
        uint32_t node = pm->vos->nodes[i].id;
        if (i != pm->index && node != pm->vos->primary && words[(node - 1) / 64] >> ((node - 1) % 64) & 1 && peer_is_up(pm, node))
            join_start(pm, node);
    }
}

static void join_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                      unsigned fd_count) {
    struct join *join = context;
    struct pm *pm = join->pm;
    pm_close_fds(fds, fd_count);
    if (status < 0 || reply->status < 0) {
        join_retry(join);
        return;
    }
    peer_seen(pm, reply);
    int index = peer_index(pm, join->node);
    pm->peers[index].active = true;
    if (join->node == pm->vos->primary && !join->after)
        join_others(pm, reply->payload.words);
    size_t count = len / sizeof(struct pm_join_entry);
    for (size_t i = 0; i < count; i++) {
        struct pm_join_entry entry;
        memcpy(&entry, (const uint8_t *)data + i * sizeof(entry), sizeof(entry));
        if (!dvk_slot_is_user(entry.pid))
            continue;
        slots_mark(&pm->slots, entry.pid);
        if (entry.moves != UINT32_MAX)
            peer_note_away(pm, entry.pid, join->node, entry.moves);
        join->after = entry.pid;
    }
    if ((size_t)reply->status > count && count > 0)
        join_send(join);
    else
        join_end(join);
}

static void join_send(struct join *join) {
    struct pm_s_join ask = {.after = join->after};
    if (peer_call(join->pm, join->node, PM_S_JOIN, &ask, sizeof(ask), NULL, 0, join_done, join) < 0)
        join_retry(join);
}

void peers_start(struct pm *pm) {
    if (pm->vos->primary != pm->vos->node)
        join_start(pm, pm->vos->primary);
    joins_check(pm);
}

static int compare_entries(const void *a, const void *b) {
    const struct pm_join_entry *x = a, *y = b;
    if (x->pid != y->pid)
        return x->pid < y->pid ? -1 : 1;
    return x->moves < y->moves ? -1 : x->moves > y->moves;
}

/* What is known here of numbers whose home is the joiner: sorted, without repeats; *count of them. NULL: no memory. */
static struct pm_join_entry *join_collect(struct pm *pm, uint32_t joiner, size_t *count) {
    size_t capacity = 3 * ((size_t)pm->process_count + PM_RECENT) + pm->entries.count + 1, used = 0;
    struct pm_join_entry *list = calloc(capacity, sizeof(*list));
    if (!list)
        return NULL;
    struct process *process;
    list_for_each(process, &pm->processes, link) {
        const struct pm_join_entry known[] = {
            {process->pid, process->moves}, {process->pgid, UINT32_MAX}, {process->sid, UINT32_MAX}};
        for (int i = 0; i < 3; i++)
            if (dvk_slot_is_user(known[i].pid) && peer_home(pm, known[i].pid) == joiner)
                list[used++] = known[i];
    }
    int64_t now = host_time_ms();
    for (unsigned i = 0; i < PM_RECENT; i++) {
        const struct recent *recent = &pm->recent[i];
        const uint32_t known[] = {recent->pid, recent->pgid, recent->sid};
        for (int k = 0; k < 3; k++)
            if (recent->until_ms > now && dvk_slot_is_user(known[k]) && peer_home(pm, known[k]) == joiner)
                list[used++] = (struct pm_join_entry){known[k], UINT32_MAX};
    }
    size_t cursor = 0;
    struct slot_entry *entry;
    while ((entry = table_next(&pm->entries, &cursor)))
        if (entry->child && (entry->child->zombie || entry->child->lost) && peer_home(pm, entry->child->pid) == joiner)
            list[used++] = (struct pm_join_entry){entry->child->pid, UINT32_MAX};
    qsort(list, used, sizeof(*list), compare_entries);
    size_t kept = 0;
    for (size_t i = 0; i < used; i++)
        if (!kept || list[kept - 1].pid != list[i].pid)
            list[kept++] = list[i];
    *count = kept;
    return list;
}

void peer_handle_join(struct pm *pm, struct dvk_request *req) {
    struct pm_s_join ask;
    memcpy(&ask, req->msg.payload.bytes, sizeof(ask));
    int index = peer_index(pm, req->source_node);
    if (!ask.after && pm->peers[index].active) /* its cell began anew without its node having left: what ran there is gone */
        peers_node_change(pm, req->source_node, false);
    pm->peers[index].active = true;

    size_t count;
    struct pm_join_entry *list = join_collect(pm, req->source_node, &count);
    if (!list) {
        peer_answer(pm, req, -ENOMEM, 0, 0);
        return;
    }
    size_t first = 0;
    while (first < count && list[first].pid <= ask.after)
        first++;
    size_t fits = req->reply_cap / sizeof(*list);
    size_t sent = count - first < fits ? count - first : fits;
    struct dvk_message reply = {.status = (int32_t)(count - first), .data_len = (uint32_t)(sent * sizeof(*list))};
    if (sent)
        memcpy(req->reply_data, list + first, sent * sizeof(*list));
    free(list);
    for (uint32_t i = 0; i < pm->vos->node_count; i++) {
        uint32_t bit = pm->vos->nodes[i].id - 1;
        if (index_is_active(pm, i))
            reply.payload.words[bit / 64] |= (uint64_t)1 << bit % 64;
    }
    reply.payload.words[PM_REPLY_LOAD_WORD] = place_load(pm);
    pm_answer_message(pm, req, &reply, NULL, 0);
}

/* ---- loss ---- */

/* Processes here whose home was the lost node are told to the node that takes its place. */
static void register_anew(struct pm *pm, int lost) {
    struct pm_moved_entry *list = malloc(MOVED_BATCH * sizeof(*list));
    uint32_t count = 0, home = 0;
    if (!list) {
        log_error("out of memory; processes with a lost home cannot be found from other nodes");
        return;
    }
    struct process *process;
    struct pm_s_moved moved = {.kind = PM_MOVED_HOME, .node = pm->vos->node};
    list_for_each(process, &pm->processes, link) {
        uint32_t new_home = peer_home(pm, process->pid);
        if ((int)home_index(pm, process->pid, lost) != lost || new_home == pm->vos->node)
            continue;
        home = new_home; /* the same for all: the next active node after the lost one */
        list[count++] = (struct pm_moved_entry){process->pid, process->moves};
        if (count == MOVED_BATCH) {
            moved.count = count;
            peer_call(pm, home, PM_S_MOVED, &moved, sizeof(moved), list, count * sizeof(*list), NULL, NULL);
            count = 0;
        }
    }
    moved.count = count;
    if (count)
        peer_call(pm, home, PM_S_MOVED, &moved, sizeof(moved), list, count * sizeof(*list), NULL, NULL);
    free(list);
}

static void forget_away(struct pm *pm, uint32_t node) {
    /* Removal while walking would upset the table: collect first. */
    uint32_t *gone = malloc((pm->entries.count + 1) * sizeof(*gone));
    size_t count = 0;
    if (!gone)
        return;
    for (size_t i = 0; i < pm->entries.capacity; i++) {
        struct slot_entry *entry = pm->entries.entries[i].value;
        if (entry && entry->away_node == node)
            gone[count++] = (uint32_t)pm->entries.entries[i].key;
    }
    for (size_t i = 0; i < count; i++)
        peer_note_gone(pm, gone[i]);
    free(gone);
}

void peers_node_change(struct pm *pm, uint32_t node, bool up) {
    int index = peer_index(pm, node);
    if (index < 0 || up || node == pm->vos->node)
        return; /* a node that comes back joins by itself when a process of the DC runs there */
    bool was_active = pm->peers[index].active;
    pm->peers[index].active = false;
    pm->peers[index].load = 0;
    forget_away(pm, node);
    if (was_active)
        register_anew(pm, index);
    arrive_node_lost(pm, node);
    exit_node_lost(pm, node);
    spare_fill(pm);
}
