/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/proxy.h"

#include "cluster/cluster.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "common/record.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define PROXY_WELL_MS 5000u  /* one that ran so long had started well */
#define PROXY_WAIT_MAX_MS 5000u

static void start(struct proxy *proxy);

static void timer_fn(void *context) {
    struct proxy *proxy = context;
    proxy->timer = NULL;
    start(proxy);
}

static void start_again(struct proxy *proxy) {
    unsigned wait_ms = 50u << (proxy->failures < 7 ? proxy->failures : 7);
    proxy->failures++;
    if (wait_ms > PROXY_WAIT_MAX_MS)
        wait_ms = PROXY_WAIT_MAX_MS;
    loop_timer_add(proxy->loop, wait_ms, timer_fn, proxy, &proxy->timer);
}

static void on_end(void *context, pid_t pid, int status) {
    struct proxy *proxy = context;
    if (!proxy->broker) /* stopped */
        return;
    proxy->pid = 0;
    record(RECORD_PROXY_END, 0, (uint64_t)status);
    spawn_log_close(&proxy->log);
    log_warning("the proxy ended (%s %d); it is started again", WIFSIGNALED(status) ? "signal" : "code",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    struct client *client = proxy->client;
    proxy->client = NULL;
    client_close(client);
    if (loop_now_ms() - proxy->started_ms > PROXY_WELL_MS)
        proxy->failures = 0;
    start_again(proxy);
    proxy->lost(proxy->context);
}

static int try_start(struct proxy *proxy) {
    const struct options *options = proxy->options;
    int sockets[2];
    char path[560], node[16];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        return -errno;
    cleanup_close int theirs = sockets[1];
    int result = broker_adopt(proxy->broker, sockets[0], CONTEXT_PROXY, 0, &proxy->client);
    if (result < 0)
        return result;
    snprintf(path, sizeof path, "%s/dvs-proxy", options->libexec);
    snprintf(node, sizeof node, "%u", options->id);
    char directory[560];
    char *argv[] = {path, "--node", node, "--listen", (char *)options->listen, "--name", (char *)options->node,
                    NULL, NULL,     NULL, NULL};
    int count = 7;
    cluster_tls_path(options->state, directory);
    if (cluster_has_certificate(options->state)) {
        argv[count++] = (char *)"--tls";
        argv[count++] = directory;
    }
    if (options->clear)
        argv[count++] = (char *)"--clear";
    strcpy(proxy->log.name, "proxy");
    pid_t pid = spawn(proxy->loop, argv, theirs, &proxy->log);
    result = pid < 0 ? (int)pid : loop_child_add(proxy->loop, pid, on_end, proxy, NULL);
    if (result == 0) {
        proxy->pid = pid;
        record(RECORD_PROXY_START, 0, (uint64_t)pid);
        proxy->started_ms = loop_now_ms();
        return 0;
    }
    if (pid > 0)
        kill(pid, SIGKILL);
    spawn_log_close(&proxy->log);
    struct client *client = proxy->client;
    proxy->client = NULL;
    client_close(client);
    return result;
}

static void start(struct proxy *proxy) {
    int result = try_start(proxy);
    if (result == 0)
        return;
    log_error("cannot start the proxy: %s", strerror(-result));
    start_again(proxy);
}

void proxy_start(struct proxy *proxy, struct loop *loop, struct broker *broker, const struct options *options,
                 void (*lost)(void *context), void *context) {
    *proxy = (struct proxy){
        .loop = loop, .broker = broker, .options = options, .log.fd = -1, .lost = lost, .context = context};
    broker->expects_proxy = true;
    start(proxy);
}

void proxy_stop(struct proxy *proxy) {
    if (!proxy->broker)
        return;
    proxy->broker = NULL;
    loop_timer_cancel(proxy->timer);
    if (proxy->pid > 0)
        kill(proxy->pid, SIGKILL);
    struct client *client = proxy->client;
    proxy->client = NULL;
    client_close(client);
    spawn_log_close(&proxy->log);
}

void proxy_on_client_gone(struct proxy *proxy, struct client *client) {
    if (proxy->client != client)
        return;
    proxy->client = NULL;
    if (proxy->pid > 0) /* without its socket it can do nothing: on_end starts another */
        kill(proxy->pid, SIGKILL);
}
