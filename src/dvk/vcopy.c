/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Grants, arenas and copies: the requester's and the owner's part. dvkd keeps the grants and the copier makes the
 * copies, but where both ends are mapped here: our own memory, and arenas that were shared with us. dvkd tells when
 * such a grant ends, before it answers who ended it; so looking at what dvkd has told before each piece is enough.
 */
#include "common/cleanup.h"
#include "dvk/copier.h"
#include "dvk/copy_protocol.h"
#include "dvk/internal.h"

#include <dvk/vcopy.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define ASK_TIMEOUT_MS 30000
#define PIECE_BYTES (256u << 10) /* copied before looking again whether the grant still stands */
#define GRACE_MS 2000            /* for the copier to tell that the time is up */

/* Memory of ours that can be shared. */
struct arena {
    struct link link; /* dvk.arenas */
    uint64_t number;
    uint8_t *base;
    size_t size;
};

/* A grant of somebody's arena to us, mapped. */
struct mapped {
    struct link link; /* dvk.mapped[] */
    uint64_t grant;
    dvk_endpoint owner, grantee;
    uint32_t dc, access;
    uint8_t *base; /* of the arena */
    size_t size;
    uint8_t *start; /* of what is granted */
    uint64_t length;
    int gone; /* not 0: why it ended */
};

/* ---- asking dvkd ---- */

static int ask(struct dvk *dvk, struct dvk_broker_packet *packet, const struct dvk_broker_grant *grant, int fd,
               struct packet *answer) {
    return broker_ask_bytes(dvk, packet, grant, grant ? sizeof *grant : 0, &fd, fd >= 0, answer,
                            deadline_of(ASK_TIMEOUT_MS));
}

static struct arena *arena_of(struct dvk *dvk, const void *address, uint64_t length) {
    uintptr_t at = (uintptr_t)address;
    list_each(arena, &dvk->arenas, struct arena, link) {
        uintptr_t base = (uintptr_t)arena->base;
        if (at >= base && at < base + arena->size && length <= base + arena->size - at)
            return arena;
    }
    return NULL;
}

static int grant_make(struct dvk *dvk, const struct own_endpoint *own, dvk_endpoint to,
                      const struct dvk_broker_grant *grant, uint64_t *number) {
    struct dvk_broker_packet packet = {.type = DVK_BROKER_GRANT, .dc = own->dc, .endpoint = own->endpoint, .peer = to};
    struct packet answer;
    /* whose memory it is: dvkd compares it with who sent the packet */
    cleanup_close int pidfd = grant->arena ? -1 : (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (!grant->arena && pidfd < 0)
        return -errno;
    int error = ask(dvk, &packet, grant, pidfd, &answer);
    if (error == 0)
        *number = answer.head.channel;
    packet_clear(&answer);
    return error;
}

int dvk_grant(struct dvk *dvk, dvk_endpoint endpoint, dvk_endpoint to, const void *address, size_t length,
              uint32_t access, uint64_t *number) {
    const struct own_endpoint *own = own_find(dvk, endpoint);
    *number = 0;
    if (!own)
        return -DVK_ENOTBOUND;
    const struct arena *arena = length ? arena_of(dvk, address, length) : NULL;
    if (length == 0 || dvk_endpoint_generation(to) == 0 || (access & DVK_GRANT_SHARE && !arena))
        return -EINVAL;
    struct dvk_broker_grant grant = {.address = (uintptr_t)address, .length = length, .access = access};
    if (arena) {
        grant.arena = arena->number;
        grant.address -= (uintptr_t)arena->base;
    }
    return grant_make(dvk, own, to, &grant, number);
}

static int number_end(struct dvk *dvk, uint64_t number) {
    struct dvk_broker_packet packet = {.type = DVK_BROKER_REVOKE, .channel = number};
    struct packet answer;
    int error = ask(dvk, &packet, NULL, -1, &answer);
    packet_clear(&answer);
    return error;
}

int dvk_revoke(struct dvk *dvk, uint64_t number) {
    return number_end(dvk, number);
}

/* ---- arenas ---- */

static int arena_memory(size_t size, uint8_t **base, int *out) {
    cleanup_close int fd = memfd_create("dvk-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        return -ENOMEM;
    *base = mapped;
    *out = steal_fd(&fd);
    return 0;
}

int dvk_arena_create(struct dvk *dvk, size_t size, void **address) {
    *address = NULL;
    if (size == 0 || size > 1ull << 40)
        return -EINVAL;
    size = (size + DVK_PAGE - 1) & ~(size_t)(DVK_PAGE - 1);
    struct arena *arena = calloc(1, sizeof *arena);
    if (!arena)
        return -ENOMEM;
    cleanup_close int fd = -1;
    int error = arena_memory(size, &arena->base, &fd);
    if (error < 0) {
        free(arena);
        return error;
    }
    struct dvk_broker_packet packet = {.type = DVK_BROKER_ARENA};
    struct packet answer;
    error = ask(dvk, &packet, NULL, fd, &answer);
    arena->number = answer.head.channel;
    packet_clear(&answer);
    if (error < 0) {
        munmap(arena->base, size);
        free(arena);
        return error;
    }
    arena->size = size;
    list_append(&dvk->arenas, &arena->link);
    *address = arena->base;
    return 0;
}

static void arena_free(struct arena *arena) {
    list_remove(&arena->link);
    munmap(arena->base, arena->size);
    free(arena);
}

int dvk_arena_destroy(struct dvk *dvk, void *address) {
    struct arena *arena = arena_of(dvk, address, 1);
    if (!arena || arena->base != address)
        return -EINVAL;
    int error = number_end(dvk, arena->number);
    if (error == -ENOMEM) /* nothing was asked: it is still there */
        return error;
    arena_free(arena); /* whatever dvkd says: with it went all that it knew */
    return error == -DVK_ENODAEMON ? 0 : error;
}

/* ---- what others share with us ---- */

static struct link *mapped_bucket(struct dvk *dvk, uint64_t grant) {
    return &dvk->mapped[grant % MAPPED_BUCKETS];
}

static struct mapped *mapped_find(struct dvk *dvk, uint64_t grant) {
    list_each(mapped, mapped_bucket(dvk, grant), struct mapped, link) {
        if (mapped->grant == grant)
            return mapped;
    }
    return NULL;
}

static void mapped_free(struct mapped *mapped) {
    list_remove(&mapped->link);
    munmap(mapped->base, mapped->size);
    free(mapped);
}

void vcopy_grant_gone(struct dvk *dvk, const struct dvk_broker_packet *head) {
    struct mapped *mapped = mapped_find(dvk, head->channel);
    if (!mapped)
        return;
    mapped->gone = head->status < 0 ? head->status : -DVK_EREVOKED;
    dvk->mapped_gone = true; /* unmapped by the next copy: one may be under way above us */
}

/* Unmap what has ended. The copier knows why it did. */
static void mapped_sweep(struct dvk *dvk) {
    dvk->mapped_gone = false;
    for (unsigned i = 0; i < MAPPED_BUCKETS; i++)
        list_each(mapped, &dvk->mapped[i], struct mapped, link) {
            if (mapped->gone)
                mapped_free(mapped);
        }
}

static int mapped_make(struct dvk *dvk, uint64_t grant, dvk_endpoint owner, const struct dvk_broker_grant *what, int fd,
                       struct mapped **out) {
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_size <= 0 || what->address > (uint64_t)st.st_size ||
        what->length > (uint64_t)st.st_size - what->address)
        return -EPROTO;
    struct mapped *mapped = calloc(1, sizeof *mapped);
    if (!mapped)
        return -ENOMEM;
    mapped->size = (size_t)st.st_size;
    void *base = mmap(NULL, mapped->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        free(mapped);
        return -ENOMEM;
    }
    mapped->grant = grant;
    mapped->owner = owner;
    mapped->access = what->access;
    mapped->base = base;
    mapped->start = mapped->base + what->address;
    mapped->length = what->length;
    list_append(mapped_bucket(dvk, grant), &mapped->link);
    *out = mapped;
    return 0;
}

/* The arena of a shared grant. Fails when it is no grant to us, or we cannot map it: the copier then says why. */
static int mapped_get(struct dvk *dvk, const struct own_endpoint *own, uint64_t grant, struct mapped **out) {
    *out = mapped_find(dvk, grant);
    if (*out)
        return 0;
    struct dvk_broker_packet packet = {
        .type = DVK_BROKER_ARENA, .dc = own->dc, .endpoint = own->endpoint, .channel = grant};
    struct packet answer;
    struct dvk_broker_grant what;
    int error = ask(dvk, &packet, NULL, -1, &answer);
    if (error == 0 && (answer.head.text_len != sizeof what || !answer.text || answer.fd_count != 1))
        error = -EPROTO;
    if (error == 0) {
        memcpy(&what, answer.text, sizeof what);
        error = mapped_make(dvk, grant, answer.head.peer, &what, answer.fds[0], out);
    }
    if (error == 0) {
        (*out)->dc = own->dc;
        (*out)->grantee = own->endpoint;
    }
    packet_clear(&answer);
    return error;
}

void vcopy_end(struct dvk *dvk) {
    struct arena *arena;
    while ((arena = list_first(&dvk->arenas, struct arena, link)))
        arena_free(arena);
    for (unsigned i = 0; i < MAPPED_BUCKETS; i++) {
        struct mapped *mapped;
        while ((mapped = list_first(&dvk->mapped[i], struct mapped, link)))
            mapped_free(mapped);
    }
}

/* ---- copying here ---- */

/* One end of a copy that can be reached here. */
struct here {
    uint8_t *start;
    struct mapped *mapped; /* NULL: our own memory */
};

/* 1: *here is set; 0: only the copier can reach it; negative: an error. */
static int here_of(struct dvk *dvk, const struct own_endpoint *own, const struct dvk_area *area, uint64_t length,
                   uint32_t access, struct here *here) {
    if (area->grant == DVK_GRANT_OWN) {
        *here = (struct here){(uint8_t *)(uintptr_t)area->offset, NULL};
        return 1;
    }
    if (!(area->grant & DVK_GRANT_SHARED) || dvk_grant_node(area->grant) != dvk->node)
        return 0;
    struct mapped *mapped;
    int error = mapped_get(dvk, own, area->grant, &mapped);
    if (error < 0)
        return error == -DVK_ENODAEMON ? error : 0;
    if (mapped->owner != area->endpoint || mapped->grantee != own->endpoint || mapped->dc != own->dc ||
        (mapped->access & access) != access)
        return -DVK_ENOTGRANTED;
    if (area->offset > mapped->length || length > mapped->length - area->offset)
        return -DVK_EOUTOFGRANT;
    *here = (struct here){mapped->start + area->offset, mapped};
    return 1;
}

static int here_gone(const struct here *here, int dead) {
    int gone = here->mapped ? here->mapped->gone : 0;
    return gone == -DVK_EDEADDST ? dead : gone;
}

static int copy_here(struct dvk *dvk, const struct here *from, const struct here *to, uint64_t length, int64_t deadline,
                     uint64_t *done) {
    for (*done = 0; *done < length;) {
        broker_drain(dvk);
        int error = here_gone(from, -DVK_EDEADSRC);
        if (error == 0)
            error = here_gone(to, -DVK_EDEADDST);
        if (error == 0 && dvk->broker_gone)
            error = -DVK_ENODAEMON; /* nobody would tell that a grant has ended */
        if (error == 0 && *done && is_past(deadline))
            error = -DVK_ETIMEDOUT;
        if (error < 0)
            return error;
        uint64_t piece = length - *done < PIECE_BYTES ? length - *done : PIECE_BYTES;
        memcpy(to->start + *done, from->start + *done, piece);
        *done += piece;
    }
    return 0;
}

/* ---- copying by the copier ---- */

/* Name our own memory by a grant to ourselves. */
static int area_own(struct dvk *dvk, struct own_endpoint *own, struct dvk_area *area, uint64_t length) {
    if (area->grant != DVK_GRANT_OWN)
        return 0;
    if (area->offset >= DVK_BROKER_GRANT_END || length > DVK_BROKER_GRANT_END - area->offset)
        return -EFAULT;
    int pid = getpid();
    if (own->own_grant == 0 || own->own_grant_pid != pid) {
        const struct dvk_broker_grant all = {.length = DVK_BROKER_GRANT_END,
                                             .access = DVK_GRANT_READ | DVK_GRANT_WRITE};
        int error = grant_make(dvk, own, own->endpoint, &all, &own->own_grant);
        if (error < 0)
            return error;
        own->own_grant_pid = pid;
    }
    area->endpoint = own->endpoint;
    area->grant = own->own_grant;
    return 0;
}

static int copy_there(struct dvk *dvk, dvk_endpoint requester, const struct dvk_area *source,
                      const struct dvk_area *destination, uint64_t length, int timeout_ms, uint64_t *done) {
    uint32_t node = dvk_grant_node(destination->grant);
    if (node == 0 || node > DVK_MAX_NODE)
        return -DVK_ENOTGRANTED;
    const struct dvk_copy_ask copy = {
        .source_owner = source->endpoint,
        .source_grant = source->grant,
        .source_offset = source->offset,
        .destination_owner = destination->endpoint,
        .destination_grant = destination->grant,
        .destination_offset = destination->offset,
        .length = length,
        .timeout_ms = timeout_ms < 0 ? -1 : timeout_ms,
    };
    struct dvk_message message = {.destination = dvk_service_endpoint(node, DVK_SERVICE_COPY), .type = DVK_COPY};
    memcpy(&message.payload, &copy, sizeof copy);
    int wait_ms = timeout_ms < 0 || timeout_ms > INT32_MAX - GRACE_MS ? -1 : timeout_ms + GRACE_MS;
    size_t got;
    int error = sendrec_own(dvk, requester, &message, NULL, 0, &got, wait_ms);
    if (error == -DVK_EDEADDST)
        error = -DVK_EINTERRUPTED; /* it is the copier that died; who else did it tells in its reply */
    if (error < 0)
        return error;
    *done = message.payload.words[0] <= length ? message.payload.words[0] : 0;
    return message.status < 0 ? message.status : 0;
}

int dvk_vcopy(struct dvk *dvk, dvk_endpoint requester, const struct dvk_area *source,
              const struct dvk_area *destination, uint64_t length, int timeout_ms, uint64_t *done) {
    struct own_endpoint *own = own_find(dvk, requester);
    struct dvk_area from = *source, to = *destination;
    struct here from_here, to_here;
    uint64_t ignored;
    if (!done)
        done = &ignored;
    *done = 0;
    if (!own)
        return -DVK_ENOTBOUND;
    if (length > DVK_BROKER_GRANT_END)
        return -DVK_EOUTOFGRANT;
    if (length == 0)
        return 0;
    broker_drain(dvk);
    if (dvk->mapped_gone)
        mapped_sweep(dvk);
    int error = here_of(dvk, own, &from, length, DVK_GRANT_READ, &from_here);
    bool both = error == 1;
    if (error >= 0)
        error = here_of(dvk, own, &to, length, DVK_GRANT_WRITE, &to_here);
    both = both && error == 1;
    if (error < 0)
        return error;
    if (both)
        return copy_here(dvk, &from_here, &to_here, length, deadline_of(timeout_ms), done);
    error = area_own(dvk, own, &from, length);
    if (error == 0)
        error = area_own(dvk, own, &to, length);
    return error < 0 ? error : copy_there(dvk, requester, &from, &to, length, timeout_ms, done);
}

/* ---- for the copier ---- */

void dvk_copier_drain(struct dvk *dvk) {
    broker_drain(dvk);
}

void dvk_copier_done(struct dvk *dvk, uint64_t id) {
    struct dvk_broker_packet done = {.type = DVK_BROKER_GRANT_DONE, .id = id};
    (void)broker_send(dvk, &done, NULL, NULL, 0);
}
