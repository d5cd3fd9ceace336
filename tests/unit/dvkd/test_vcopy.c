/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Grants and copies within a node: the broker in a thread, the copier a process, owners of memory in processes of their
 * own, the requester here.
 *
 *   test_vcopy PATH_OF_DVS_COPIER
 */
#include "played_node.h"

#include "common/cleanup.h"
#include "dvk/broker.h"
#include "dvk/channel_create.h"

#include <dvk/vcopy.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES (8u << 20) /* of an owner */

static const char *copier_path;
static pid_t copier_pid;
static struct client *copier_client;

/* ---- the node ---- */

static void host_client_gone(void *context, struct client *client) {
    if (client == copier_client)
        copier_client = NULL;
}

static int host_copier_start(void *context) {
    int sockets[2];
    if (copier_client)
        return 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
    assert_int_equal(broker_adopt(&broker, sockets[0], CONTEXT_COPIER, 0, &copier_client), 0);
    copier_pid = fork();
    if (copier_pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (sockets[1] == 3)
            fcntl(3, F_SETFD, 0);
        else
            dup2(sockets[1], 3);
        execl(copier_path, copier_path, "test", (char *)NULL);
        _exit(127);
    }
    close(sockets[1]);
    return 0;
}

static int setup(void **state) {
    struct broker_host host = node_host();
    host.client_gone = host_client_gone;
    host.copier_start = host_copier_start;
    copier_client = NULL;
    copier_pid = 0;
    return node_start(&host);
}

static int teardown(void **state) {
    node_stop();
    if (copier_pid > 0) {
        int status;
        kill(copier_pid, SIGKILL); /* if it has not seen its socket close yet */
        assert_int_equal(waitpid(copier_pid, &status, 0), copier_pid);
        assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 1);
    }
    return 0;
}

static struct dvk *client_open(uint32_t dc, dvk_endpoint *self) {
    struct dvk *dvk;
    assert_int_equal(dvk_open_fd(client_socket(CONTEXT_PROGRAM, 0, NULL), &dvk), 0);
    assert_int_equal(dvk_bind(dvk, dc, DVK_SLOT_ANY, self), 0);
    return dvk;
}

/* ---- owners ---- */

struct owner {
    pid_t pid;
    int to, from; /* pipes */
    dvk_endpoint endpoint;
    uint64_t grant;
    bool arena;
};

static uint8_t byte_of(uint64_t i, unsigned seed) {
    return (uint8_t)(i * 7 + (i >> 9) + (i >> 17) * 3 + seed);
}

/* Commands: R revoke, D destroy the arena, H make a hole in the middle, F fill with a seed, V is all as filled,
 * C is it what byte_of says of a seed,
 * from an offset, U unbind, Q quit. The answer is a number. */
struct command {
    char what;
    unsigned seed;
    uint64_t offset, length;
};

static void owner_main(struct owner *owner, int socket, uint32_t dc, dvk_endpoint to, uint32_t access, int in,
                       int out) {
    struct dvk *dvk;
    uint8_t *bytes;
    struct command command;
    int64_t answer;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (dvk_open_fd(socket, &dvk) < 0 || dvk_bind(dvk, dc, DVK_SLOT_ANY, &owner->endpoint) < 0)
        _exit(2);
    if (owner->arena) {
        if (dvk_arena_create(dvk, BYTES, (void **)&bytes) < 0)
            _exit(3);
    } else
        bytes = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int error = dvk_grant(dvk, owner->endpoint, to, bytes + 100, BYTES - 200, access, &owner->grant);
    if (error < 0) {
        fprintf(stderr, "dvk_grant: %s\n", dvk_strerror(error));
        _exit(4);
    }
    if (write(out, owner, sizeof *owner) != sizeof *owner)
        _exit(5);
    while (read(in, &command, sizeof command) == sizeof command && command.what != 'Q') {
        answer = 0;
        switch (command.what) {
        case 'R':
            answer = dvk_revoke(dvk, owner->grant);
            break;
        case 'D':
            answer = dvk_arena_destroy(dvk, bytes);
            break;
        case 'U':
            answer = dvk_unbind(dvk, owner->endpoint);
            break;
        case 'H':
            answer = munmap(bytes + BYTES / 2, 65536);
            break;
        case 'F':
            for (uint64_t i = 0; i < BYTES; i++)
                bytes[i] = byte_of(i, command.seed);
            break;
        case 'V':
            for (uint64_t i = 0; i < BYTES && answer == 0; i++)
                answer = bytes[i] == byte_of(i, command.seed) ? 0 : (int64_t)i + 1;
            break;
        case 'C':
            for (uint64_t i = 0; i < command.length && answer == 0; i++)
                answer = bytes[100 + command.offset + i] == byte_of(i, command.seed) ? 0 : (int64_t)i + 1;
            break;
        }
        if (write(out, &answer, sizeof answer) != sizeof answer)
            break;
    }
    dvk_close(dvk);
    _exit(0);
}

static struct owner owner_start(uint32_t dc, dvk_endpoint to, uint32_t access, bool arena) {
    struct owner owner = {.arena = arena};
    int in[2], out[2], socket = client_socket(CONTEXT_PROGRAM, 0, NULL);
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pthread_mutex_lock(&lock); /* no lock is held in the child */
    owner.pid = fork();
    if (owner.pid == 0) {
        syscall(SYS_close_range, 100u, ~0u, 0u);
        close(in[1]);
        close(out[0]);
        owner_main(&owner, socket, dc, to, access, in[0], out[1]);
    }
    pthread_mutex_unlock(&lock);
    close(socket);
    close(in[0]);
    close(out[1]);
    owner.to = in[1];
    owner.from = out[0];
    struct owner told;
    assert_int_equal(read(owner.from, &told, sizeof told), sizeof told);
    owner.endpoint = told.endpoint;
    owner.grant = told.grant;
    return owner;
}

static int64_t owner_do(struct owner *owner, char what, unsigned seed, uint64_t offset, uint64_t length) {
    struct command command = {what, seed, offset, length};
    int64_t answer;
    assert_int_equal(write(owner->to, &command, sizeof command), sizeof command);
    assert_int_equal(read(owner->from, &answer, sizeof answer), sizeof answer);
    return answer;
}

static void owner_stop(struct owner *owner) {
    const struct command quit = {.what = 'Q'};
    (void)!write(owner->to, &quit, sizeof quit); /* one that was killed does not read it */
    close(owner->to);
    close(owner->from);
    int status;
    assert_int_equal(waitpid(owner->pid, &status, 0), owner->pid);
}

static void owner_kill(struct owner *owner) {
    kill(owner->pid, SIGKILL);
    owner_stop(owner);
}

static struct dvk_area area(const struct owner *owner, uint64_t offset) {
    return (struct dvk_area){owner->endpoint, owner->grant, offset};
}
static struct dvk_area mine(const void *at) {
    return (struct dvk_area){0, DVK_GRANT_OWN, (uintptr_t)at};
}

/* ---- tests ---- */

enum { BOTH = DVK_GRANT_READ | DVK_GRANT_WRITE };
static const uint64_t lengths[] = {1, 4095, 65536, 1000003, BYTES - 200};

/* In all pairs of kinds of memory: out of an owner's, into an owner's, and from one owner to another. */
static void copy_all(bool from_arena, bool to_arena, uint32_t more) {
    dvk_endpoint self;
    struct dvk *dvk = client_open(DC, &self);
    struct owner a = owner_start(DC, self, BOTH | (from_arena ? more : 0), from_arena);
    struct owner b = owner_start(DC, self, BOTH | (to_arena ? more : 0), to_arena);
    uint8_t *buffer = malloc(BYTES);
    for (unsigned k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        uint64_t length = lengths[k], done = 0, offset = k == 4 ? 0 : 4000;
        struct dvk_area from = area(&a, offset), to = area(&b, offset), own = mine(buffer);
        assert_int_equal(owner_do(&a, 'F', k, 0, 0), 0);
        memset(buffer, 0xee, BYTES);
        assert_int_equal(dvk_vcopy(dvk, self, &from, &own, length, 10000, &done), 0);
        assert_int_equal(done, length);
        for (uint64_t i = 0; i < length; i++)
            if (buffer[i] != byte_of(100 + offset + i, k))
                fail_msg("byte %llu", (unsigned long long)i);
        if (length < BYTES)
            assert_int_equal(buffer[length], 0xee);

        for (uint64_t i = 0; i < length; i++)
            buffer[i] = byte_of(i, k + 50);
        assert_int_equal(dvk_vcopy(dvk, self, &own, &from, length, 10000, &done), 0);
        assert_int_equal(owner_do(&a, 'C', k + 50, offset, length), 0);

        assert_int_equal(dvk_vcopy(dvk, self, &from, &to, length, 10000, &done), 0);
        assert_int_equal(done, length);
        assert_int_equal(owner_do(&b, 'C', k + 50, offset, length), 0);
    }
    free(buffer);
    dvk_close(dvk);
    owner_stop(&a);
    owner_stop(&b);
}

static void test_memory(void **state) {
    copy_all(false, false, 0);
}
static void test_from_arena(void **state) {
    copy_all(true, false, 0);
}
static void test_to_arena(void **state) {
    copy_all(false, true, 0);
}
static void test_arenas(void **state) {
    copy_all(true, true, 0);
}
static void test_shared(void **state) {
    copy_all(true, true, DVK_GRANT_SHARE);
    assert_int_equal(copier_pid, 0); /* all by memcpy */
}
static void test_shared_and_not(void **state) {
    copy_all(true, false, DVK_GRANT_SHARE);
}

static void test_own(void **state) {
    dvk_endpoint self;
    struct dvk *dvk = client_open(DC, &self);
    char a[] = "abcdef", b[] = "......";
    struct dvk_area from = mine(a), to = mine(b);
    uint64_t done;
    assert_int_equal(dvk_vcopy(dvk, self, &from, &to, 3, 0, &done), 0);
    assert_string_equal(b, "abc...");
    assert_int_equal(dvk_vcopy(dvk, self, &from, &to, 0, 0, &done), 0);
    assert_int_equal(done, 0);
    dvk_close(dvk);
}

static void test_refused(void **state) {
    for (int kind = 0; kind < 3; kind++) { /* memory, an arena, a shared arena */
        dvk_endpoint self, other, stranger;
        struct dvk *dvk = client_open(DC, &self), *second = client_open(DC + 1, &stranger);
        assert_int_equal(dvk_bind(dvk, DC, DVK_SLOT_ANY, &other), 0);
        uint32_t more = kind == 2 ? DVK_GRANT_SHARE : 0;
        struct owner reader = owner_start(DC, self, DVK_GRANT_READ | more, kind > 0);
        struct owner writer = owner_start(DC, self, DVK_GRANT_WRITE | more, kind > 0);
        uint8_t byte[16] = {0};
        uint64_t done, size = BYTES - 200;
        struct dvk_area own = mine(byte), from = area(&reader, 0), to = area(&writer, 0);
        assert_int_equal(dvk_vcopy(dvk, self, &from, &to, 16, 1000, &done), 0);
        /* not for that */
        assert_int_equal(dvk_vcopy(dvk, self, &to, &own, 1, 1000, &done), -DVK_ENOTGRANTED);
        assert_int_equal(dvk_vcopy(dvk, self, &own, &from, 1, 1000, &done), -DVK_ENOTGRANTED);
        /* to somebody else: another endpoint, even of the same process; one of another DC */
        assert_int_equal(dvk_vcopy(dvk, other, &from, &own, 1, 1000, &done), -DVK_ENOTGRANTED);
        assert_int_equal(dvk_vcopy(second, stranger, &from, &own, 1, 1000, &done), -DVK_ENOTGRANTED);
        assert_int_equal(dvk_vcopy(dvk, ~stranger, &from, &own, 1, 1000, &done), -DVK_ENOTBOUND);
        /* of somebody else, or of nobody */
        struct dvk_area bad = {writer.endpoint, reader.grant, 0};
        assert_int_equal(dvk_vcopy(dvk, self, &bad, &own, 1, 1000, &done), -DVK_ENOTGRANTED);
        bad = (struct dvk_area){reader.endpoint, reader.grant + 100, 0};
        assert_int_equal(dvk_vcopy(dvk, self, &bad, &own, 1, 1000, &done), -DVK_ENOTGRANTED);
        bad = (struct dvk_area){reader.endpoint, reader.grant ^ DVK_GRANT_SHARED, 0};
        assert_true(dvk_vcopy(dvk, self, &bad, &own, 1, 1000, &done) < 0);
        bad = (struct dvk_area){reader.endpoint, 77, 0};
        assert_int_equal(dvk_vcopy(dvk, self, &bad, &own, 1, 1000, &done), -DVK_ENOTGRANTED);
        assert_int_equal(dvk_vcopy(dvk, self, &own, &bad, 1, 1000, &done), -DVK_ENOTGRANTED);
        bad.grant = ~0ull;
        assert_int_equal(dvk_vcopy(dvk, self, &own, &bad, 1, 1000, &done), -DVK_ENOTGRANTED);
        /* elsewhere */
        const uint64_t ranges[][2] = {{size, 1},       {size - 15, 16}, {~0ull, 1},
                                      {~0ull - 7, 16}, {1ull << 47, 1}, {0, size + 1}};
        for (unsigned i = 0; i < sizeof ranges / sizeof *ranges; i++) {
            from.offset = ranges[i][0];
            assert_int_equal(dvk_vcopy(dvk, self, &from, &own, ranges[i][1], 1000, &done), -DVK_EOUTOFGRANT);
            to.offset = ranges[i][0];
            assert_int_equal(dvk_vcopy(dvk, self, &own, &to, ranges[i][1], 1000, &done), -DVK_EOUTOFGRANT);
            assert_int_equal(done, 0);
        }
        from.offset = to.offset = 0;
        assert_int_equal(dvk_vcopy(dvk, self, &from, &to, ~0ull, 1000, &done), -DVK_EOUTOFGRANT);
        /* ended */
        assert_int_equal(dvk_revoke(dvk, reader.grant), -DVK_ENOTGRANTED); /* not ours */
        assert_int_equal(owner_do(&reader, 'R', 0, 0, 0), 0);
        assert_int_equal(owner_do(&reader, 'R', 0, 0, 0), -DVK_ENOTGRANTED);
        assert_int_equal(dvk_vcopy(dvk, self, &from, &own, 1, 1000, &done), -DVK_EREVOKED);
        assert_int_equal(owner_do(&writer, kind ? 'D' : 'U', 0, 0, 0), 0);
        assert_int_equal(dvk_vcopy(dvk, self, &own, &to, 1, 1000, &done), kind ? -DVK_EREVOKED : -DVK_EDEADDST);
        dvk_close(dvk);
        dvk_close(second);
        owner_stop(&reader);
        owner_stop(&writer);
    }
}

static void test_arguments(void **state) {
    dvk_endpoint self;
    struct dvk *dvk = client_open(DC, &self);
    uint64_t grant;
    char byte;
    void *arena, *other;
    assert_int_equal(dvk_grant(dvk, self, self, &byte, 0, BOTH, &grant), -EINVAL);
    assert_int_equal(dvk_grant(dvk, self, self, &byte, 1, 0, &grant), -EINVAL);
    assert_int_equal(dvk_grant(dvk, self, self, &byte, 1, 8, &grant), -EINVAL);
    assert_int_equal(dvk_grant(dvk, self, self, &byte, 1, BOTH | DVK_GRANT_SHARE, &grant), -EINVAL);
    assert_int_equal(dvk_grant(dvk, self, self, &byte, SIZE_MAX, BOTH, &grant), -EINVAL);
    assert_int_equal(dvk_grant(dvk, self, self, (void *)UINTPTR_MAX, 2, BOTH, &grant), -EINVAL);
    assert_int_equal(dvk_grant(dvk, self, 99, &byte, 1, BOTH, &grant), -EINVAL); /* no generation */
    assert_int_equal(dvk_grant(dvk, self, DVK_ANY, &byte, 1, BOTH, &grant), -EINVAL);
    assert_int_equal(dvk_grant(dvk, self ^ 1, self, &byte, 1, BOTH, &grant), -DVK_ENOTBOUND);
    assert_int_equal(grant, 0);
    assert_int_equal(dvk_revoke(dvk, 0), -DVK_ENOTGRANTED);
    assert_int_equal(dvk_arena_create(dvk, 0, &arena), -EINVAL);
    assert_int_equal(dvk_arena_create(dvk, 5000, &arena), 0);
    assert_int_equal(dvk_arena_destroy(dvk, (char *)arena + 4096), -EINVAL);
    assert_int_equal(dvk_grant(dvk, self, self, arena, 8193, BOTH | DVK_GRANT_SHARE, &grant), -EINVAL);
    assert_int_equal(dvk_grant(dvk, self, self, arena, 8192, BOTH | DVK_GRANT_SHARE, &grant), 0);
    assert_int_equal(dvk_arena_destroy(dvk, arena), 0);
    assert_int_equal(dvk_revoke(dvk, grant), -DVK_ENOTGRANTED);
    assert_int_equal(dvk_arena_destroy(dvk, arena), -EINVAL);
    for (unsigned i = 0; i < ARENAS_MAX; i++)
        assert_int_equal(dvk_arena_create(dvk, 1, &other), 0);
    assert_int_equal(dvk_arena_create(dvk, 1, &other), -ENOSPC);
    dvk_close(dvk);
}

static void test_hole(void **state) {
    dvk_endpoint self;
    struct dvk *dvk = client_open(DC, &self);
    struct owner a = owner_start(DC, self, BOTH, false);
    uint8_t *buffer = malloc(BYTES);
    struct dvk_area there = area(&a, 0), own = mine(buffer);
    uint64_t done, hole = BYTES / 2 - 100;
    assert_int_equal(owner_do(&a, 'H', 0, 0, 0), 0);
    assert_int_equal(dvk_vcopy(dvk, self, &there, &own, BYTES - 200, 5000, &done), -EFAULT);
    assert_int_equal(done, hole);
    assert_int_equal(dvk_vcopy(dvk, self, &own, &there, BYTES - 200, 5000, &done), -EFAULT);
    assert_int_equal(done, hole);
    there.offset = hole + 65536; /* behind it */
    assert_int_equal(dvk_vcopy(dvk, self, &own, &there, 1000, 5000, &done), 0);
    /* our own memory need not exist either, if the copier does it */
    struct dvk_area nowhere = {0, DVK_GRANT_OWN, 4096};
    assert_int_equal(dvk_vcopy(dvk, self, &nowhere, &there, 1, 5000, &done), -EFAULT);
    nowhere.offset = ~0ull - 4096;
    assert_int_equal(dvk_vcopy(dvk, self, &nowhere, &there, 1, 5000, &done), -EFAULT);
    free(buffer);
    dvk_close(dvk);
    owner_stop(&a);
}

static void test_time(void **state) {
    dvk_endpoint self;
    struct dvk *dvk = client_open(DC, &self);
    struct owner a = owner_start(DC, self, BOTH, false);
    uint8_t *buffer = malloc(BYTES);
    struct dvk_area there = area(&a, 0), own = mine(buffer);
    uint64_t done;
    assert_int_equal(dvk_vcopy(dvk, self, &there, &own, BYTES - 200, 0, &done), -DVK_ETIMEDOUT);
    assert_int_equal(done, 1 << 20); /* a slice */
    assert_int_equal(dvk_vcopy(dvk, self, &there, &own, 1 << 20, 0, &done), 0);
    free(buffer);
    dvk_close(dvk);
    owner_stop(&a);
}

struct later {
    struct owner *owner;
    char what;
    pthread_t thread;
};
static void *later_main(void *context) {
    struct later *later = context;
    usleep(30000);
    if (later->what == 'K')
        kill(later->owner->pid, SIGKILL);
    else
        assert_int_equal(owner_do(later->owner, later->what, 0, 0, 0), 0);
    return NULL;
}

/* Copies go on until something ends them; that is told, and nothing is written any more. */
static void end_midway(char what, bool into, bool arena, uint32_t more, int expected) {
    dvk_endpoint self;
    struct dvk *dvk = client_open(DC, &self);
    struct owner a = owner_start(DC, self, BOTH | more, arena);
    uint8_t *buffer = calloc(1, BYTES);
    struct dvk_area there = area(&a, 0), own = mine(buffer);
    struct later later = {&a, what, 0};
    uint64_t done, length = BYTES - 200;
    int error = 0;
    assert_int_equal(pthread_create(&later.thread, NULL, later_main, &later), 0);
    while (error == 0)
        error = into ? dvk_vcopy(dvk, self, &own, &there, length, 20000, &done)
                     : dvk_vcopy(dvk, self, &there, &own, length, 20000, &done);
    assert_int_equal(error, expected);
    assert_true(done < length);
    pthread_join(later.thread, NULL);
    if (what == 'R' && into) { /* what its owner writes from now on stays */
        assert_int_equal(owner_do(&a, 'F', 9, 0, 0), 0);
        for (int i = 0; i < 20; i++)
            assert_int_equal(dvk_vcopy(dvk, self, &own, &there, length, 20000, &done), -DVK_EREVOKED);
        assert_int_equal(owner_do(&a, 'V', 9, 0, 0), 0);
    }
    free(buffer);
    dvk_close(dvk);
    if (what == 'K')
        owner_stop(&a);
    else
        owner_kill(&a);
}

static void test_revoked_midway(void **state) {
    end_midway('R', false, false, 0, -DVK_EREVOKED);
    end_midway('R', true, false, 0, -DVK_EREVOKED);
    end_midway('R', true, true, 0, -DVK_EREVOKED);
    end_midway('R', true, true, DVK_GRANT_SHARE, -DVK_EREVOKED);
    end_midway('D', false, true, DVK_GRANT_SHARE, -DVK_EREVOKED);
}

static void test_dead_midway(void **state) {
    end_midway('K', false, false, 0, -DVK_EDEADSRC);
    end_midway('K', true, false, 0, -DVK_EDEADDST);
    end_midway('K', false, true, 0, -DVK_EDEADSRC);
    end_midway('K', false, true, DVK_GRANT_SHARE, -DVK_EDEADSRC);
    end_midway('K', true, true, DVK_GRANT_SHARE, -DVK_EDEADDST);
    end_midway('U', true, false, 0, -DVK_EDEADDST);
}

/* A copier that dies is named as such; the next one knows all grants that stand. */
static void test_copier_dies(void **state) {
    dvk_endpoint self;
    struct dvk *dvk = client_open(DC, &self);
    struct owner a = owner_start(DC, self, BOTH, false), b = owner_start(DC, self, BOTH, true),
                 c = owner_start(DC, self, BOTH, false);
    assert_int_equal(owner_do(&a, 'F', 1, 0, 0), 0);
    uint8_t buffer[1000];
    struct dvk_area from = area(&a, 0), to = area(&b, 0), own = mine(buffer), revoked = area(&c, 0);
    uint64_t done;
    assert_int_equal(dvk_vcopy(dvk, self, &from, &to, 1000, 5000, &done), 0);
    pid_t first = copier_pid;
    kill(copier_pid, SIGKILL);
    assert_int_equal(waitpid(first, NULL, 0), first);
    int error, tries = 0;
    while ((error = dvk_vcopy(dvk, self, &to, &own, 1000, 5000, &done)) == -DVK_EINTERRUPTED && tries++ < 1000)
        usleep(1000);
    assert_int_equal(error, 0);
    assert_int_not_equal(copier_pid, first);
    for (unsigned i = 0; i < sizeof buffer; i++)
        assert_int_equal(buffer[i], byte_of(100 + i, 1));
    assert_int_equal(owner_do(&c, 'R', 0, 0, 0), 0);
    assert_int_equal(dvk_vcopy(dvk, self, &revoked, &own, 1000, 5000, &done), -DVK_EREVOKED);
    dvk_close(dvk);
    owner_stop(&a);
    owner_stop(&b);
    owner_stop(&c);
}

/* Many grants, ended and made anew: numbers are not used again, nothing is left. */
static void test_many(void **state) {
    dvk_endpoint self, grantee;
    struct dvk *dvk = client_open(DC, &self);
    assert_int_equal(dvk_bind(dvk, DC, DVK_SLOT_ANY, &grantee), 0);
    static uint8_t bytes[4096], out[16];
    uint64_t grants[300], last = 0, done;
    for (int round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 300; i++) {
            bytes[i] = (uint8_t)(i + (unsigned)round);
            assert_int_equal(dvk_grant(dvk, self, grantee, bytes + i, 1, DVK_GRANT_READ, &grants[i]), 0);
            assert_true(grants[i] > last);
            last = grants[i];
        }
        for (unsigned i = 0; i < 300; i += 7) {
            struct dvk_area from = {self, grants[i], 0}, to = mine(out);
            assert_int_equal(dvk_vcopy(dvk, grantee, &from, &to, 1, 5000, &done), 0);
            assert_int_equal(out[0], (uint8_t)(i + (unsigned)round));
        }
        for (unsigned i = 0; i < 300; i++)
            assert_int_equal(dvk_revoke(dvk, grants[i]), 0);
    }
    pthread_mutex_lock(&lock);
    assert_int_equal(broker.grants.grants.count, 1); /* our own memory, to the copier */
    pthread_mutex_unlock(&lock);
    dvk_close(dvk);
    for (int i = 0; i < 1000; i++) {
        pthread_mutex_lock(&lock);
        size_t left = broker.grants.grants.count + broker.grants.memories.count;
        pthread_mutex_unlock(&lock);
        if (left == 0)
            return;
        usleep(1000);
    }
    fail_msg("grants are left");
}

/* ---- a client that lies, by hand ---- */

static struct dvk_broker_packet exchange(int fd, struct dvk_broker_packet packet, const void *text, size_t text_len,
                                         int pass) {
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    packet.magic = DVK_BROKER_MAGIC;
    packet.version = DVK_BROKER_VERSION;
    packet.text_len = (uint32_t)text_len;
    struct iovec parts[2] = {{&packet, sizeof packet}, {(void *)(uintptr_t)text, text_len}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (pass >= 0) {
        message.msg_control = control.space;
        message.msg_controllen = sizeof control.space;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(header), &pass, sizeof pass);
    }
    assert_true(sendmsg(fd, &message, MSG_NOSIGNAL) > 0);
    struct dvk_broker_packet answer;
    do
        assert_true(recv(fd, &answer, sizeof answer, 0) >= (ssize_t)sizeof answer);
    while (!(answer.type & DVK_BROKER_ANSWER));
    return answer;
}

static void test_liar(void **state) {
    int fd = client_socket(CONTEXT_PROGRAM, 0, NULL), bell;
    assert_int_equal(dvk_doorbell_create(&bell), 0);
    assert_int_equal(exchange(fd, (struct dvk_broker_packet){.type = DVK_BROKER_HELLO}, NULL, 0, bell).status, 0);
    struct dvk_broker_packet bound =
        exchange(fd, (struct dvk_broker_packet){.type = DVK_BROKER_BIND, .dc = DC}, NULL, 0, -1);
    assert_int_equal(bound.status, 0);
    struct dvk_broker_packet ask = {
        .type = DVK_BROKER_GRANT, .dc = DC, .endpoint = bound.endpoint, .peer = bound.endpoint};
    struct dvk_broker_grant grant = {.address = 4096, .length = 1, .access = BOTH};
    pid_t other = fork();
    if (other == 0) {
        pause();
        _exit(0);
    }
    int own_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0), other_pidfd = (int)syscall(SYS_pidfd_open, other, 0);
    assert_int_equal(exchange(fd, ask, &grant, sizeof grant, own_pidfd).status, 0);
    /* whose memory: another process's, nobody's, no pidfd at all. A second connection, since the first is known by now
     */
    int second = client_socket(CONTEXT_PROGRAM, 0, NULL);
    assert_int_equal(exchange(second, (struct dvk_broker_packet){.type = DVK_BROKER_HELLO}, NULL, 0, bell).status, 0);
    struct dvk_broker_packet bound2 =
        exchange(second, (struct dvk_broker_packet){.type = DVK_BROKER_BIND, .dc = DC}, NULL, 0, -1);
    struct dvk_broker_packet ask2 = ask;
    ask2.endpoint = ask2.peer = bound2.endpoint;
    assert_int_equal(exchange(second, ask2, &grant, sizeof grant, other_pidfd).status, -DVK_ENOTALLOWED);
    assert_int_equal(exchange(second, ask2, &grant, sizeof grant, bell).status, -DVK_ENOTALLOWED);
    assert_int_equal(exchange(second, ask2, &grant, sizeof grant, -1).status, -EINVAL);
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    assert_int_equal(exchange(second, ask2, &grant, sizeof grant, other_pidfd).status, -DVK_ENOTALLOWED);
    /* in whose name: another client's endpoint */
    assert_int_equal(exchange(second, ask, &grant, sizeof grant, own_pidfd).status, -DVK_ENOTBOUND);
    /* what */
    assert_int_equal(exchange(second, ask2, &grant, sizeof grant - 1, own_pidfd).status, -EINVAL);
    grant.arena = 12345;
    assert_int_equal(exchange(second, ask2, &grant, sizeof grant, own_pidfd).status, -EINVAL);
    grant = (struct dvk_broker_grant){.address = ~0ull, .length = 2, .access = BOTH};
    assert_int_equal(exchange(second, ask2, &grant, sizeof grant, own_pidfd).status, -EINVAL);
    grant = (struct dvk_broker_grant){.address = 1, .length = ~0ull, .access = BOTH};
    assert_int_equal(exchange(second, ask2, &grant, sizeof grant, own_pidfd).status, -EINVAL);
    grant = (struct dvk_broker_grant){.address = 1, .length = 1, .access = BOTH, .pad = 1};
    assert_int_equal(exchange(second, ask2, &grant, sizeof grant, own_pidfd).status, -EINVAL);
    /* arenas: sealed memory only */
    struct dvk_broker_packet arena = {.type = DVK_BROKER_ARENA};
    int plain = memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(ftruncate(plain, 4096), 0);
    assert_int_equal(exchange(second, arena, NULL, 0, plain).status, -EINVAL);
    assert_int_equal(exchange(second, arena, NULL, 0, null).status, -EINVAL);
    assert_int_equal(exchange(second, arena, NULL, 0, own_pidfd).status, -EINVAL);
    assert_int_equal(fcntl(plain, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    struct dvk_broker_packet made = exchange(second, arena, NULL, 0, plain);
    assert_int_equal(made.status, 0);
    /* somebody else's arena */
    grant = (struct dvk_broker_grant){.length = 1, .access = BOTH, .arena = made.channel};
    assert_int_equal(exchange(fd, ask, &grant, sizeof grant, -1).status, -EINVAL);
    arena.channel = made.channel;
    arena.dc = DC;
    arena.endpoint = bound.endpoint;
    assert_int_equal(exchange(fd, arena, NULL, 0, -1).status, -DVK_ENOTGRANTED);
    assert_int_equal(
        exchange(fd, (struct dvk_broker_packet){.type = DVK_BROKER_REVOKE, .channel = made.channel}, NULL, 0, -1)
            .status,
        -DVK_ENOTGRANTED);
    /* the copier's service is nobody's to take */
    struct dvk_broker_packet bind = {
        .type = DVK_BROKER_BIND, .dc = DC, .endpoint = dvk_system_slot(NODE, DVK_SERVICE_COPY)};
    assert_int_equal(exchange(fd, bind, NULL, 0, -1).status, -DVK_ENOTALLOWED);
    const int fds[] = {fd, second, bell, own_pidfd, other_pidfd, plain, null};
    for (unsigned i = 0; i < sizeof fds / sizeof *fds; i++)
        close(fds[i]);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_from_arena, setup, teardown),
        cmocka_unit_test_setup_teardown(test_to_arena, setup, teardown),
        cmocka_unit_test_setup_teardown(test_arenas, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shared, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shared_and_not, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_arguments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_revoked_midway, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_midway, setup, teardown),
        cmocka_unit_test_setup_teardown(test_copier_dies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_liar, setup, teardown),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: test_vcopy PATH_OF_DVS_COPIER\n");
        return 2;
    }
    copier_path = argv[1];
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("vcopy", tests, NULL, NULL);
}
