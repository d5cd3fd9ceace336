/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pm on three fake nodes (tests/unit/pm/world.h): guests ask anything in any order, host processes end, nodes are lost, other
 * pms and servers send what they like. What the fake world asserts of pm's own calls holds for all of it.
 */
#include "../unit/pm/world.h"
#include "common/log.h"
#include "input.h"
#include "vos/image.h"
#include "vos/pm/record.h"
#include "vos/pm/remote.h"

#include <signal.h>

#define GUESTS 24
#define SLOT_LIMIT 1024u

struct known {
    uint32_t pid;
    int node;
    dvk_endpoint endpoint;
    bool busy;     /* its request is unanswered */
    uint32_t type; /* ... of this kind */
};
static struct known guests[GUESTS];

static struct known *guest_of(dvk_endpoint endpoint) {
    for (int i = 0; i < GUESTS; i++)
        if (guests[i].endpoint == endpoint && endpoint)
            return &guests[i];
    return NULL;
}

static void guest_note(uint32_t pid, int node, dvk_endpoint endpoint) {
    struct known *guest = guest_of(endpoint);
    for (int i = 0; i < GUESTS && !guest; i++)
        if (!guests[i].endpoint)
            guest = &guests[i];
    if (guest)
        *guest = (struct known){pid, node, endpoint, false, 0};
}

static void answered(dvk_endpoint endpoint, int node, const struct dvk_message *reply, const void *data) {
    struct known *guest = guest_of(endpoint);
    if (!guest)
        return;
    guest->busy = false;
    /* the answer to PM_FORK names the child: it is cloned at once */
    uint32_t pid = (uint32_t)reply->payload.words[0];
    if (guest->type == PM_FORK && reply->status == 0 && !world_host_exists(node, pid)) {
        world_host_add(node, pid);
        guest_note(pid, node, world_bound(node, pid));
    }
}
static void cloned(uint32_t pid, int node, dvk_endpoint endpoint) { guest_note(pid, node, endpoint); }
static void signalled(uint32_t pid, int node, int sig) {}

static const struct world_hooks hooks = {answered, cloned, signalled, NULL};

static uint64_t word(struct input *in) {
    uint8_t how = input_byte(in);
    if (how < 0x40)
        return how;
    if (how < 0x80)
        return (uint64_t)0 - (how - 0x3fu);
    if (how < 0xe0)
        return guests[how % GUESTS].pid;
    return how < 0xf0 ? input_u16(in) : input_u64(in);
}

/* A sound image header now and then, so that exec gets on. */
static size_t image(struct input *in, uint8_t *out, size_t cap) {
    struct vos_image_header header = {.magic = VOS_IMAGE_MAGIC, .version = 1, .argc = 1, .envc = 0, .string_bytes = 8};
    header.fd_count = input_byte(in) % 4;
    header.host_fds = input_byte(in) % 3;
    size_t len = sizeof header + 8 + header.fd_count * sizeof(struct vos_image_fd);
    memset(out, 0, len);
    memcpy(out, &header, sizeof header);
    memcpy(out + sizeof header, "/x\0/x\0\0", 8);
    return len < cap ? len : cap;
}

static void request(struct input *in, struct known *guest) {
    uint64_t words[6] = {0};
    uint8_t op = input_byte(in), how = input_byte(in);
    static uint8_t data[DVK_DATA_MAX];
    size_t len = 0;
    uint32_t type = VOS_TYPE(DVK_SERVICE_PM, op < 0xc0 ? (op % 48) : op);
    for (unsigned i = 0; i < how % 6; i++)
        words[i] = word(in);
    if (type == PM_EXEC && how & 0x80) {
        len = image(in, data, sizeof data);
        words[0] = 0;
        words[1] = len;
    } else if (how & 0x40) {
        len = input_byte(in);
        input_copy(in, data, len);
    }
    guest->busy = true;
    guest->type = type;
    world_request(guest->node, guest->endpoint, type, words, 6, data, len);
}

/* From another pm or another server of the cell. */
static void peer_request(struct input *in, int node) {
    uint64_t words[16] = {0};
    uint8_t op = input_byte(in), how = input_byte(in);
    static uint8_t data[4096];
    size_t len = how & 1 ? input_u16(in) % sizeof data : input_byte(in);
    uint32_t type = VOS_TYPE(DVK_SERVICE_PM, 64 + op % 12);
    struct pm_head head = {.version = PM_REMOTE_VERSION};
    for (unsigned i = 0; i < 16; i++)
        words[i] = word(in);
    if (!(how & 2))
        memcpy(words, &head, sizeof head);
    input_copy(in, data, len);
    if (how & 4 && len >= sizeof(struct record_header)) {
        uint64_t magic = RECORD_MAGIC;
        uint32_t version = RECORD_VERSION;
        memcpy(data, &magic, sizeof magic);
        memcpy(data + 8, &version, sizeof version);
    }
    uint32_t service = how & 8 ? DVK_SERVICE_FS : DVK_SERVICE_PM;
    int from = service == DVK_SERVICE_PM ? (node + 1 + (how >> 7)) % WORLD_NODES : node;
    world_request(node, vos_service(world_node_id(from), service), type, words, 16, data, len);
}

static void act(struct input *in, bool peers) {
    uint8_t op = input_byte(in), which = input_byte(in);
    struct known *guest = &guests[which % GUESTS];
    int node = guest->node;
    bool host = guest->endpoint && world_alive(node) && world_host_exists(node, guest->pid) &&
                world_bound(node, guest->pid) == guest->endpoint;
    switch (op % 16) {
    case 0: /* the host process ends by itself */
        if (host) {
            world_host_state(node, guest->pid, op & 0x40 ? SIGKILL : 0);
            *guest = (struct known){0};
        }
        break;
    case 1:
        if (host && guest->busy)
            world_cancel(node, guest->endpoint);
        break;
    case 2:
        if (host)
            world_host_state(node, guest->pid, op & 0x40 ? 0xffff : SIGSTOP << 8 | 0x7f);
        break;
    case 3:
        if (peers && world_alive(which % WORLD_NODES))
            peer_request(in, which % WORLD_NODES);
        break;
    case 4:
        for (unsigned i = 0; i < which % 32 && world_step(); i++)
            ;
        break;
    case 5:
        if (world_alive(which % WORLD_NODES))
            world_control(which % WORLD_NODES, 5, "{\"op\":\"start\",\"argv\":[\"/bin/x\"],\"env\":[\"A=b\"],\"tty\":false}", 3);
        break;
    case 6:
        if (which % WORLD_NODES && op & 0x80 && world_alive(which % WORLD_NODES)) {
            world_kill_node((int)(which % WORLD_NODES));
            for (int i = 0; i < GUESTS; i++)
                if (guests[i].node == (int)(which % WORLD_NODES))
                    guests[i] = (struct known){0};
        }
        break;
    default:
        if (host && !guest->busy)
            request(in, guest);
    }
    world_step();
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    log_init("fuzz");
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const places[] = {"local", "spread", "balance", "node=n2"};
    struct input in = {data, size};
    uint8_t first = input_byte(&in);
    memset(guests, 0, sizeof guests);
    world_start(input_byte(&in), SLOT_LIMIT, places[first % 4], &hooks);
    world_control(0, 5, "{\"op\":\"start\",\"argv\":[\"/bin/x\"],\"env\":[\"A=b\"],\"tty\":false}", 3);
    for (int i = 0; i < 200 && !guests[0].endpoint; i++)
        world_step();
    for (unsigned steps = 0; in.left && steps < 300; steps++)
        act(&in, first & 4);
    for (unsigned i = 0; i < 500 && world_step(); i++)
        ;
    world_drop();
    return 0;
}
