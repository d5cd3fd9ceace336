/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs on three fake nodes (tests/unit/fs): guests ask anything, with and without descriptors, cancel, and end; other fs servers
 * and pms send what they like. Each request is answered sooner or later, or can be cancelled.
 */
#include "../unit/fs/setup.h"
#include "common/log.h"
#include "input.h"
#include "jail.h"

#include <dvk/error.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define NODES 3u
#define REQUESTS 32

static struct pending {
    struct dvk_request *req;
    struct vos *vos;
    struct answer *answer;
} pending[REQUESTS];
static uint64_t numbers[16]; /* handles and the like that answers have named */
static int granted[4] = {-1, -1, -1, -1};
static bool gone[NODES];

static const char *const names[] = {"/",         "/a",       "/a/f",     "/link",  "/up/x",     "/new",      "x",          "..",
                                    "/dev/null", "/dev/shm", "/proc",    "/proc/self/fd/0",  "/proc/1/status", "/c/../d", "", "/new/y/z",
                                    "/dev/tty",  "/.dvs/nodes", "/dev/ptmx", "/fifo",    "/dev/shm/s", "/a/b/c", "user.x",     "/link/"};

static uint64_t word(struct input *in) {
    static const uint64_t common[] = {(uint64_t)VOS_CWD, (uint64_t)-1, O_CREAT | O_RDWR, O_DIRECTORY, 0100644, 0010644, 4096, 1u << 20};
    uint8_t how = input_byte(in);
    if (how < 0x40)
        return how;
    if (how < 0xc0)
        return numbers[how % 16];
    if (how < 0xe0)
        return common[how % 8];
    return how < 0xf0 ? input_u32(in) : input_u64(in);
}

static size_t text(struct input *in, char *out, size_t cap) {
    size_t len = 0;
    uint8_t how = input_byte(in);
    for (unsigned i = 0; i < how % 3; i++) {
        const char *name = names[input_byte(in) % (sizeof names / sizeof names[0])];
        memcpy(out + len, name, strlen(name) + 1);
        len += strlen(name) + 1;
    }
    size_t got;
    const uint8_t *more = how & 0x80 ? input_bytes(in, how & 0x40 ? cap - len : 24, &got) : NULL;
    if (more && got) {
        memcpy(out + len, more, got);
        len += got;
    }
    return len;
}

/* What lies in the words of an answer may be asked for later. */
static void note(struct pending *p) {
    struct answer *answer = p->answer;
    for (int i = 0; i < 3; i++)
        if (answer->words[i] && answer->words[i] < 1u << 20)
            numbers[answer->words[i] % 16] = answer->words[i];
    if (answer->fd >= 0) {
        int slot = answer->fd % 4;
        if (granted[slot] >= 0)
            close(granted[slot]);
        granted[slot] = answer->fd;
    }
    answer->fd = -1;
    p->req = NULL;
    p->vos = NULL;
}

static void collect(void) {
    for (int i = 0; i < REQUESTS; i++)
        if (pending[i].vos && pending[i].answer->done)
            note(&pending[i]);
}

static struct pending *place(void) {
    for (int i = 0; i < REQUESTS; i++)
        if (!pending[i].vos)
            return &pending[i];
    return NULL;
}

static void guest_request(struct input *in, struct vos *v, uint32_t pid) {
    static char data[FAKE_DATA];
    uint64_t words[8];
    struct pending *p = place();
    uint8_t op = input_byte(in), how = input_byte(in);
    if (!p)
        return;
    for (unsigned i = 0; i < 8; i++)
        words[i] = i < how % 8 ? word(in) : 0;
    size_t len = how & 8 ? text(in, data, sizeof data) : 0;
    uint32_t type = VOS_TYPE(DVK_SERVICE_FS, op < 0xe0 ? op % 56 : op);
    p->vos = v;
    p->req = fake_request(v, pid, type, words, data, len, how & 0x10 ? granted[how >> 6] : -1, p->answer);
}

/* From the cell's pm: processes begin, fork, move and end. */
static void pm_request(struct input *in, struct vos *v) {
    static struct answer answer;
    static char data[FAKE_DATA];
    uint8_t op = input_byte(in);
    uint64_t words[4] = {100 + input_byte(in) % 6, 100 + input_byte(in) % 6, input_byte(in), 022};
    size_t len = text(in, data, sizeof data);
    answer.fd = -1;
    if (op % 8 == 3 || op % 8 == 4) { /* a process leaves, and arrives elsewhere or is sent something wrong */
        fake_pm_call(v, FS_S_EXPORTS, words, NULL, 0, &answer);
        if (op & 0x40) {
            len = answer.len;
            memcpy(data, answer.data, len);
            if (op & 0x80 && len)
                data[input_u16(in) % len] ^= (char)input_byte(in);
        }
        fake_pm_call(&vos[op % NODES], FS_S_IMPORTS, words, data, len, &answer);
    } else
        fake_pm_call(v, VOS_TYPE(DVK_SERVICE_FS, 64 + op % 8), words, data, len, &answer);
    if (answer.fd >= 0)
        close(answer.fd);
}

/* From an fs of another node. */
static void peer_request(struct input *in, struct vos *v) {
    static char data[FAKE_DATA];
    struct pending *p = place();
    uint8_t op = input_byte(in);
    uint64_t words[24];
    for (unsigned i = 0; i < 24; i++)
        words[i] = word(in);
    size_t len = text(in, data, sizeof data);
    if (!p)
        return;
    p->vos = v;
    p->req = fake_peer_request(v, (v->node % NODES) + 1, VOS_TYPE(DVK_SERVICE_FS, 80 + op % 48), words, 24, data, len, p->answer);
}

static void act(struct input *in, bool peers) {
    uint8_t op = input_byte(in), which = input_byte(in);
    struct vos *v = &vos[which % NODES];
    struct pending *p = &pending[which % REQUESTS];
    if (gone[which % NODES])
        return;
    switch (op % 16) {
    case 0:
        if (p->vos && p->req && !p->answer->done && !p->req->cancelled)
            fake_cancel(p->vos, p->req);
        break;
    case 1:
    case 2:
        pm_request(in, v);
        break;
    case 3:
        if (peers)
            peer_request(in, v);
        break;
    case 4:
        if (which % NODES && op == 0xf4 && peers) {
            gone[which % NODES] = true;
            fake_node_down(vos, NODES, v->node);
            for (int i = 0; i < REQUESTS; i++)
                if (pending[i].vos == v) /* nobody waits there any more */
                    pending[i].vos = NULL;
        }
        break;
    default:
        guest_request(in, v, 100 + (which >> 2) % 6);
    }
    fake_run(op >> 6);
    collect();
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    log_init("fuzz");
    jail_enter();
    for (int i = 0; i < REQUESTS; i++) {
        pending[i].answer = calloc(1, sizeof(struct answer));
        MUST(pending[i].answer);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    uint8_t first = input_byte(&in);
    memset(gone, 0, sizeof gone);
    memset(numbers, 0, sizeof numbers);
    setup(NODES);
    fake_seed(input_byte(&in));
    for (unsigned n = 0; n < NODES; n++)
        for (unsigned i = 0; i < 3; i++)
            fake_process(&vos[n], 100 + i, i == 2 ? 1000 : 0, i == 2 ? 1000 : 0);
    for (unsigned steps = 0; in.left && steps < 60; steps++)
        act(&in, first & 1);
    /* who has waited long enough cancels, and is answered */
    for (int i = 0; i < REQUESTS; i++)
        if (pending[i].vos && pending[i].req && !pending[i].answer->done && !pending[i].req->cancelled && !gone[pending[i].vos->node - 1])
            fake_cancel(pending[i].vos, pending[i].req);
    fake_run(16);
    collect();
    for (int i = 0; i < REQUESTS && !(first & 1); i++)
        MUST(!pending[i].vos);
    for (int i = 0; i < REQUESTS; i++)
        pending[i].vos = NULL;
    for (int i = 0; i < 4; i++) {
        if (granted[i] >= 0)
            close(granted[i]);
        granted[i] = -1;
    }
    teardown();
    return 0;
}
