/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Message round trips, beside a bare futex ping-pong of the same placement. Prints one JSON object a line:
 * {"name", "ours", "unit", "baseline", "baseline_name", "runs", "spread"}; times are ns a round trip, the median of the
 * runs; spread is (max - min) / median of the runs. dvkd is played by the tests' stand-in: it is on no message's path.
 *
 *   bench_dvk [PATTERN] [PROXY]    only names that contain PATTERN; path of dvs-proxy for the remote round trip
 */
#include "common/cleanup.h"
#include "dvk/futex.h"
#include "fake_dvkd.h"

#include <arpa/inet.h>
#include <dvk/dvk.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define DC 1u
#define RUNS 7
#define SERVER dvk_service_endpoint(1, DVK_SERVICE_PM)

static const char *only;

static int64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static void pin(int cpu) {
    if (cpu < 0)
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)sched_setaffinity(0, sizeof set, &set);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct figure {
    double median, spread;
};
static struct figure figure_of(double *runs) {
    qsort(runs, RUNS, sizeof *runs, compare);
    return (struct figure){runs[RUNS / 2], (runs[RUNS - 1] - runs[0]) / runs[RUNS / 2]};
}

static void print(const char *name, struct figure ours, const char *baseline_name, struct figure baseline) {
    printf(
        "{\"name\": \"%s\", \"ours\": %.0f, \"unit\": \"ns\", \"baseline\": %.0f, \"baseline_name\": \"%s\", \"runs\": "
        "%d, \"spread\": %.2f}\n",
        name, ours.median, baseline.median, baseline_name, RUNS, ours.spread);
    fflush(stdout);
}

/* ---- futex ping-pong: two words, no copying ---- */

static void wait_change(uint32_t *word, uint32_t old) {
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == old)
        (void)dvk_futex_wait(word, old, -1);
}

static struct figure futex_bench(int cpu_a, int cpu_b, unsigned rounds) {
    uint32_t *words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    double runs[RUNS];
    unsigned total = rounds * RUNS;
    pid_t pid = fork();
    if (pid == 0) {
        pin(cpu_b);
        for (uint32_t i = 0; i < total; i++) {
            wait_change(&words[0], i);
            __atomic_store_n(&words[32], i + 1, __ATOMIC_RELEASE);
            dvk_futex_wake(&words[32], 1);
        }
        _exit(0);
    }
    pin(cpu_a);
    uint32_t count = 0;
    for (int r = 0; r < RUNS; r++) {
        int64_t start = now_ns();
        for (unsigned i = 0; i < rounds; i++, count++) {
            __atomic_store_n(&words[0], count + 1, __ATOMIC_RELEASE);
            dvk_futex_wake(&words[0], 1);
            wait_change(&words[32], count);
        }
        runs[r] = (double)(now_ns() - start) / rounds;
    }
    waitpid(pid, NULL, 0);
    munmap(words, 4096);
    return figure_of(runs);
}

/* ---- libdvk ---- */

static pid_t server_start(struct fake_dvkd *fake, int cpu) {
    int fd = fake_client(fake, false, NULL), ready[2];
    if (pipe(ready) < 0)
        exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        struct dvk *dvk;
        dvk_endpoint self;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin(cpu);
        if (dvk_open_fd(fd, &dvk) < 0 || dvk_bind(dvk, DC, dvk_endpoint_slot(SERVER), &self) < 0 ||
            write(ready[1], "x", 1) != 1)
            _exit(1);
        struct dvk_request *req;
        while (dvk_receive(dvk, &req, -1) == 0) {
            struct dvk_message reply = {.status = 1, .data_len = req->msg.data_len};
            if (req->msg.data_len)
                memcpy(req->reply_data, req->data, req->msg.data_len);
            dvk_reply(dvk, req, &reply, NULL, 0);
        }
        _exit(0);
    }
    close(fd);
    close(ready[1]);
    char c;
    if (read(ready[0], &c, 1) != 1)
        exit(1);
    close(ready[0]);
    return pid;
}

static struct figure round_trips(struct fake_dvkd *fake, int cpu, size_t data_len, unsigned rounds) {
    static uint8_t out[DVK_DATA_MAX], in[DVK_DATA_MAX];
    struct dvk *dvk;
    dvk_endpoint self;
    double runs[RUNS];
    pin(cpu);
    if (dvk_open_fd(fake_client(fake, false, NULL), &dvk) < 0 || dvk_bind(dvk, DC, DVK_SLOT_ANY, &self) < 0)
        exit(1);
    for (int r = -1; r < RUNS; r++) { /* the first warms up */
        int64_t start = now_ns();
        for (unsigned i = 0; i < rounds; i++) {
            struct dvk_message m = {.destination = SERVER, .type = 1};
            int error = dvk_sendrec(dvk, self, &m, out, data_len, in, sizeof in, NULL, 5000);
            if (error < 0 && r >= 0) {
                fprintf(stderr, "bench_dvk: %s\n", dvk_strerror(error));
                exit(1);
            }
            if (error < 0)
                usleep(10000);
        }
        if (r >= 0)
            runs[r] = (double)(now_ns() - start) / rounds;
    }
    dvk_close(dvk);
    return figure_of(runs);
}

static void local(const char *name, int cpu_a, int cpu_b, size_t data_len, unsigned rounds) {
    if (only && !strstr(name, only))
        return;
    struct fake_dvkd *fake = fake_start(1);
    struct figure base = futex_bench(cpu_a, cpu_b, rounds);
    pid_t pid = server_start(fake, cpu_b);
    struct figure ours = round_trips(fake, cpu_a, data_len, rounds);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    fake_stop(fake);
    print(name, ours, "futex ping-pong", base);
}

/* ---- remote: two proxies over loopback TCP ---- */

static pid_t proxy_start(struct fake_dvkd *fake, const char *path, uint32_t node, unsigned port, int *number) {
    int fd = fake_client(fake, true, number);
    char node_text[16], listen_text[64];
    snprintf(node_text, sizeof node_text, "%u", node);
    snprintf(listen_text, sizeof listen_text, "127.0.0.1:%u", port);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (fd != 3) {
            dup2(fd, 3);
            close(fd);
        }
        fcntl(3, F_SETFD, 0);
        setenv("DVS_LOG", "error", 0);
        execl(path, "dvs-proxy", "--node", node_text, "--listen", listen_text, "--name", node_text, (char *)NULL);
        _exit(127);
    }
    close(fd);
    return pid;
}

static struct figure tcp_bench(unsigned rounds) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char bytes[312];
    double runs[RUNS];
    if (bind(listener, (struct sockaddr *)&address, len) < 0 || listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &len) < 0)
        exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = accept(listener, NULL, NULL);
        while (recv(fd, bytes, sizeof bytes, MSG_WAITALL) == sizeof bytes)
            if (send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) < 0)
                break;
        _exit(0);
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, len) < 0)
        exit(1);
    for (int r = 0; r < RUNS; r++) {
        int64_t start = now_ns();
        for (unsigned i = 0; i < rounds; i++)
            if (send(fd, bytes, sizeof bytes, 0) < 0 || recv(fd, bytes, sizeof bytes, MSG_WAITALL) < 0)
                exit(1);
        runs[r] = (double)(now_ns() - start) / rounds;
    }
    close(fd);
    close(listener);
    waitpid(pid, NULL, 0);
    return figure_of(runs);
}

static void remote(const char *name, const char *proxy, unsigned rounds) {
    if (!proxy || (only && !strstr(name, only)))
        return;
    struct fake_dvkd *fakes[2] = {fake_start(1), fake_start(2)};
    int numbers[2];
    unsigned port = 20000 + (unsigned)getpid() % 20000;
    struct figure base = tcp_bench(rounds);
    pid_t proxies[2] = {proxy_start(fakes[0], proxy, 1, port, &numbers[0]),
                        proxy_start(fakes[1], proxy, 2, port + 1, &numbers[1])};
    char address[64];
    usleep(100000);
    for (int i = 0; i < 2; i++) {
        snprintf(address, sizeof address, "127.0.0.1:%u", port + 1 - (unsigned)i);
        fake_node(fakes[i], numbers[i], (uint32_t)(2 - i), true, address);
    }
    usleep(200000);
    pid_t server = server_start(fakes[0], -1);
    print(name, round_trips(fakes[1], -1, 0, rounds), "TCP ping-pong, loopback", base);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    for (int i = 0; i < 2; i++) {
        kill(proxies[i], SIGKILL);
        waitpid(proxies[i], NULL, 0);
        fake_stop(fakes[i]);
    }
}

int main(int argc, char **argv) {
    only = argc > 1 && *argv[1] ? argv[1] : NULL;
    const char *proxy = argc > 2 ? argv[2] : NULL;
    bool two = sysconf(_SC_NPROCESSORS_ONLN) > 1;
    cpu_set_t all;
    (void)sched_getaffinity(0, sizeof all, &all);
    local("message round trip, one core", 0, 0, 0, 20000);
    local("message round trip with 4 KiB, one core", 0, 0, 4096, 10000);
    if (two)
        local("message round trip, two cores", 0, 1, 0, 10000);
    (void)sched_setaffinity(0, sizeof all, &all);
    local("message round trip, unpinned", -1, -1, 0, 10000);
    remote("remote message round trip", proxy, 3000);
    return 0;
}
