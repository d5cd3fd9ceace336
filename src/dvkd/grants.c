/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/grants.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "dvkd/broker_private.h"

#include <dvk/error.h>
#include <dvk/vcopy.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

/* What grants lie in: an arena, or the memory of one process. */
struct memory {
    struct list of_client; /* client_grants.memories */
    struct client *client;
    uint64_t number;
    uint64_t size;      /* of an arena; 0: a process */
    pid_t pid;          /* of a process */
    int pidfd;          /* of a process; else -1 */
    int fd;             /* memfd or /proc/PID/mem */
    bool told;          /* the copier has it */
    struct list grants; /* struct grant.of_memory */
};

struct grant {
    struct list of_memory;
    struct memory *memory;
    uint64_t number;
    uint32_t dc;
    dvk_endpoint owner, grantee;
    struct dvk_broker_grant what;
    bool mapped; /* the grantee's process has the arena */
};

/* A REVOKE whose answer waits for the copier. */
struct revoke_wait {
    struct list link;
    struct client *client;
    struct dvk_broker_packet packet;
    uint64_t told;
};

void grants_init(struct broker *broker, uint32_t first_generation) {
    struct grants *grants = &broker->grants;
    *grants = (struct grants){.last = (uint64_t)(first_generation & 0x7fffffff) << 22};
    list_init(&grants->waits);
}

void grants_destroy(struct broker *broker) {
    table_free(&broker->grants.grants);
    table_free(&broker->grants.memories);
}

void grants_client_init(struct client *client) {
    client->grants = (struct client_grants){0};
    list_init(&client->grants.memories);
}

static uint64_t number_next(struct broker *broker, bool shared) {
    return (uint64_t)broker->node << DVK_GRANT_NODE_SHIFT | (shared ? DVK_GRANT_SHARED : 0) | ++broker->grants.last;
}

/* ---- memory ---- */

static struct memory *memory_add(struct client *client, uint64_t size, pid_t pid, int pidfd, int fd) {
    struct broker *broker = client->broker;
    struct memory *memory = malloc(sizeof *memory);
    if (!memory)
        return NULL;
    *memory = (struct memory){
        .client = client, .number = number_next(broker, false), .size = size, .pid = pid, .pidfd = pidfd, .fd = fd};
    if (table_set(&broker->grants.memories, memory->number, memory) < 0) {
        free(memory);
        return NULL;
    }
    list_init(&memory->grants);
    list_append(&client->grants.memories, &memory->of_client);
    return memory;
}

static void memory_free(struct memory *memory) {
    (void)table_remove(&memory->client->broker->grants.memories, memory->number);
    list_remove(&memory->of_client);
    close(memory->fd);
    if (memory->pidfd >= 0)
        close(memory->pidfd);
    free(memory);
}

/* The number that a pidfd stands for, in our own pid namespace; 0: it is none, or its process has been reaped. */
static pid_t pidfd_number(int pidfd) {
    char path[40], line[128];
    int pid = 0;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
    cleanup_file FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Pid: %d", &pid) == 1)
            return pid > 0 ? pid : 0;
    return 0;
}

/* The memory of the process that sent the packet. *out, or a negative error. */
static int memory_of_sender(struct client *client, int *pidfd, struct memory **out) {
    pid_t sender = client->sender;
    struct memory *memory;
    list_for_each(memory, &client->grants.memories, of_client) {
        if (memory->pidfd >= 0 && memory->pid == sender && pidfd_number(memory->pidfd) == sender) {
            *out = memory;
            return 0;
        }
    }
    if (sender <= 0 || pidfd_number(*pidfd) != sender)
        return -DVK_ENOTALLOWED;
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)sender);
    cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        log_warning("cannot reach the memory of a client (pid %d): %m", (int)sender);
        return -DVK_ENOTALLOWED;
    }
    if (pidfd_number(*pidfd) != sender) /* the number was its all the time */
        return -DVK_ENOTALLOWED;
    *out = memory_add(client, 0, sender, *pidfd, fd);
    if (!*out)
        return -ENOMEM;
    *pidfd = -1;
    steal_fd(&fd);
    return 0;
}

/* A file whose size stands and whose pages are ordinary memory. */
static int check_arena(int fd, uint64_t *size) {
    struct stat status;
    struct statfs where;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW) ||
        fstat(fd, &status) < 0 || fstatfs(fd, &where) < 0 || where.f_type != TMPFS_MAGIC || status.st_size <= 0)
        return -EINVAL;
    *size = (uint64_t)status.st_size;
    return 0;
}

/* ---- telling the copier ---- */

static void tell_made(struct broker *broker, const struct grant *grant) {
    struct memory *memory = grant->memory;
    struct dvk_broker_packet packet = {.type = DVK_BROKER_GRANT_MADE,
                                       .dc = grant->dc,
                                       .endpoint = grant->owner,
                                       .peer = grant->grantee,
                                       .channel = grant->number,
                                       .id = memory->number,
                                       .text_len = sizeof grant->what};
    if (!broker->copier)
        return;
    client_send(broker->copier, &packet, (const char *)&grant->what, &memory->fd, memory->told ? 0 : 1);
    memory->told = true;
}

void grants_copier_ready(struct broker *broker) {
    struct grants *grants = &broker->grants;
    /* so that it knows which numbers have been given out */
    struct dvk_broker_packet packet = {.type = DVK_BROKER_GRANT_GONE, .channel = number_next(broker, false)};
    client_send(broker->copier, &packet, NULL, NULL, 0);
    size_t cursor = 0;
    struct grant *grant;
    while ((grant = table_next(&grants->grants, &cursor)))
        tell_made(broker, grant);
}

static void wait_answer(struct revoke_wait *wait) {
    struct dvk_broker_packet answer = client_answer(&wait->packet, 0);
    client_send(wait->client, &answer, NULL, NULL, 0);
    list_remove(&wait->link);
    free(wait);
}

void grants_copier_gone(struct broker *broker) {
    struct memory *memory;
    size_t cursor = 0;
    while ((memory = table_next(&broker->grants.memories, &cursor)))
        memory->told = false;
    struct revoke_wait *wait;
    list_for_each(wait, &broker->grants.waits, link) wait_answer(wait);
}

void broker_grant_done(struct client *client, const struct dvk_broker_packet *packet) {
    struct revoke_wait *wait;
    if (client->context->role != CONTEXT_COPIER) {
        client_violation(client, "it is not the copier");
        return;
    }
    list_for_each(wait, &client->broker->grants.waits, link) {
        if (wait->told == packet->id) {
            wait_answer(wait);
            return;
        }
    }
}

/* ---- grants ---- */

/* Ends it and tells who has to know. told: not 0: the copier answers with it. */
static void grant_end(struct broker *broker, struct grant *grant, int status, uint64_t told) {
    struct dvk_broker_packet packet = {
        .type = DVK_BROKER_GRANT_GONE, .dc = grant->dc, .channel = grant->number, .status = status};
    if (grant->mapped) {
        const struct endpoint *grantee = registry_find_endpoint(&broker->registry, grant->dc, grant->grantee);
        if (grantee)
            client_send(grantee->context->user, &packet, NULL, NULL, 0);
    }
    packet.id = told;
    if (broker->copier)
        client_send(broker->copier, &packet, NULL, NULL, 0);
    (void)table_remove(&broker->grants.grants, grant->number);
    list_remove(&grant->of_memory);
    grant->memory->client->grants.grant_count--;
    free(grant);
}

/* A process's memory is forgotten when nothing of it is granted any more; an arena is its owner's to end. */
static void memory_settle(struct memory *memory) {
    if (memory->size == 0 && list_empty(&memory->grants))
        memory_free(memory);
}

static void memory_end(struct memory *memory, int status, uint64_t told) {
    struct broker *broker = memory->client->broker;
    struct grant *grant;
    list_for_each(grant, &memory->grants, of_memory) grant_end(broker, grant, status, 0);
    if (memory->size)
        memory->client->grants.arena_count--;
    /* behind all of them, so that one answer is enough */
    struct dvk_broker_packet packet = {.type = DVK_BROKER_GRANT_GONE, .channel = memory->number, .id = told};
    if (told && broker->copier)
        client_send(broker->copier, &packet, NULL, NULL, 0);
    memory_free(memory);
}

static bool grant_is_possible(const struct dvk_broker_grant *what, uint64_t end) {
    const uint32_t both = DVK_GRANT_READ | DVK_GRANT_WRITE;
    if (!(what->access & both) || what->access & ~(both | DVK_GRANT_SHARE) || what->pad)
        return false;
    if (what->access & DVK_GRANT_SHARE && !what->arena)
        return false;
    return what->length && what->address < end && what->length <= end - what->address;
}

static int grant_make(struct client *client, const struct dvk_broker_packet *packet, const char *text, int *fds,
                      unsigned fd_count, struct grant **out) {
    struct broker *broker = client->broker;
    struct dvk_broker_grant what;
    struct endpoint *owner = registry_find_endpoint(&broker->registry, packet->dc, packet->endpoint);
    if (!owner || owner->context != client->context || owner->guest || endpoint_address(owner) != packet->endpoint)
        return -DVK_ENOTBOUND;
    /* to itself: for a copy that it makes */
    if (!privileges_may(client, packet->dc, packet->endpoint,
                        packet->peer == packet->endpoint ? DVK_MAY_GRANT | DVK_MAY_COPY : DVK_MAY_GRANT))
        return -DVK_ENOTALLOWED;
    if (packet->text_len != sizeof what || dvk_endpoint_generation(packet->peer) == 0 || packet->peer == DVK_ANY)
        return -EINVAL;
    memcpy(&what, text, sizeof what);
    struct memory *memory = what.arena ? table_get(&broker->grants.memories, what.arena) : NULL;
    if (what.arena && (!memory || memory->client != client || memory->size == 0))
        return -EINVAL;
    if (!grant_is_possible(&what, memory ? memory->size : DVK_BROKER_GRANT_END))
        return -EINVAL;
    if (client->grants.grant_count >= GRANTS_MAX)
        return -ENOSPC;
    int result = memory ? 0 : fd_count != 1 ? -EINVAL : memory_of_sender(client, &fds[0], &memory);
    if (result < 0)
        return result;
    struct grant *grant = malloc(sizeof *grant);
    uint64_t number = number_next(broker, what.access & DVK_GRANT_SHARE);
    if (!grant || table_set(&broker->grants.grants, number, grant) < 0) {
        free(grant);
        memory_settle(memory);
        return -ENOMEM;
    }
    *grant = (struct grant){.memory = memory,
                            .number = number,
                            .dc = packet->dc,
                            .owner = packet->endpoint,
                            .grantee = packet->peer,
                            .what = what};
    list_append(&memory->grants, &grant->of_memory);
    client->grants.grant_count++;
    *out = grant;
    return 0;
}

void broker_grant(struct client *client, const struct dvk_broker_packet *packet, const char *text, int *fds,
                  unsigned fd_count) {
    struct grant *grant = NULL;
    struct dvk_broker_packet answer = client_answer(packet, grant_make(client, packet, text, fds, fd_count, &grant));
    if (grant) {
        answer.channel = grant->number;
        tell_made(client->broker, grant);
    }
    client_send(client, &answer, NULL, NULL, 0);
}

void broker_revoke(struct client *client, const struct dvk_broker_packet *packet) {
    struct broker *broker = client->broker;
    struct grant *grant = table_get(&broker->grants.grants, packet->channel);
    struct memory *arena = grant ? NULL : table_get(&broker->grants.memories, packet->channel);
    if (grant ? grant->memory->client != client : !arena || arena->client != client || arena->size == 0) {
        struct dvk_broker_packet answer = client_answer(packet, -DVK_ENOTGRANTED);
        client_send(client, &answer, NULL, NULL, 0);
        return;
    }
    struct revoke_wait *wait = malloc(sizeof *wait);
    if (!wait) { /* it stands */
        struct dvk_broker_packet answer = client_answer(packet, -ENOMEM);
        client_send(client, &answer, NULL, NULL, 0);
        return;
    }
    *wait = (struct revoke_wait){.client = client, .packet = *packet, .told = ++broker->grants.last_told};
    list_append(&broker->grants.waits, &wait->link);
    if (grant) {
        struct memory *memory = grant->memory;
        grant_end(broker, grant, -DVK_EREVOKED, wait->told);
        memory_settle(memory);
    } else {
        memory_end(arena, -DVK_EREVOKED, wait->told);
    }
    if (!broker->copier)
        wait_answer(wait);
}

/* ---- arenas ---- */

static int arena_add(struct client *client, int *fd, uint64_t *number) {
    uint64_t size;
    int result = check_arena(*fd, &size);
    if (result < 0)
        return result;
    if (client->grants.arena_count >= ARENAS_MAX)
        return -ENOSPC;
    struct memory *memory = memory_add(client, size, 0, -1, *fd);
    if (!memory)
        return -ENOMEM;
    client->grants.arena_count++;
    *fd = -1;
    *number = memory->number;
    return 0;
}

/* The arena of a shared grant, for its grantee. */
static int arena_show(struct client *client, const struct dvk_broker_packet *packet, struct grant **out) {
    struct broker *broker = client->broker;
    struct endpoint *self = registry_find_endpoint(&broker->registry, packet->dc, packet->endpoint);
    struct grant *grant = table_get(&broker->grants.grants, packet->channel);
    if (!self || self->context != client->context || self->guest)
        return -DVK_ENOTBOUND;
    if (!privileges_may(client, packet->dc, packet->endpoint, DVK_MAY_COPY))
        return -DVK_ENOTALLOWED;
    if (!grant || !(grant->what.access & DVK_GRANT_SHARE) || grant->dc != packet->dc ||
        grant->grantee != endpoint_address(self))
        return -DVK_ENOTGRANTED;
    *out = grant;
    return 0;
}

void broker_arena(struct client *client, const struct dvk_broker_packet *packet, int *fds, unsigned fd_count) {
    struct dvk_broker_packet answer = client_answer(packet, 0);
    if (fd_count) {
        answer.status = fd_count == 1 ? arena_add(client, &fds[0], &answer.channel) : -EINVAL;
        client_send(client, &answer, NULL, NULL, 0);
        return;
    }
    struct grant *grant = NULL;
    answer.status = arena_show(client, packet, &grant);
    if (!grant) {
        client_send(client, &answer, NULL, NULL, 0);
        return;
    }
    grant->mapped = true;
    answer.peer = grant->owner;
    answer.text_len = sizeof grant->what;
    client_send(client, &answer, (const char *)&grant->what, &grant->memory->fd, 1);
}

/* ---- ends ---- */

void grants_client_gone(struct client *client) {
    struct memory *memory;
    list_for_each(memory, &client->grants.memories, of_client) memory_end(memory, -DVK_EDEADDST, 0);
    struct revoke_wait *wait;
    list_for_each(wait, &client->broker->grants.waits, link) {
        if (wait->client == client) {
            list_remove(&wait->link);
            free(wait);
        }
    }
}

void grants_endpoint_gone(struct client *client, uint32_t dc, dvk_endpoint endpoint) {
    struct memory *memory;
    list_for_each(memory, &client->grants.memories, of_client) {
        struct grant *grant;
        list_for_each(grant, &memory->grants, of_memory) {
            if (grant->dc == dc && grant->owner == endpoint)
                grant_end(client->broker, grant, -DVK_EDEADDST, 0);
        }
        memory_settle(memory);
    }
}
