/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/copier.h"

#include "common/cleanup.h"
#include "common/log.h"

#include <dvk/error.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

void copier_init(struct copier *copier, struct loop *loop, struct broker *broker, const struct options *options) {
    *copier = (struct copier){.loop = loop, .broker = broker, .options = options, .log.fd = -1};
}

static void on_end(void *context, pid_t pid, int status) {
    struct copier *copier = context;
    if (!copier->loop) /* stopped */
        return;
    copier->pid = 0;
    spawn_log_close(&copier->log);
    log_warning("the copier ended (%s %d)", WIFSIGNALED(status) ? "signal" : "code",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    struct client *client = copier->client;
    copier->client = NULL;
    client_close(client);
    broker_copier_change(copier->broker, -DVK_EINTERRUPTED);
}

int copier_start(struct copier *copier) {
    int sockets[2];
    char path[560];
    if (!copier->loop)
        return -DVK_ENOTBOUND;
    if (copier->pid)
        return 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        return -errno;
    cleanup_close int theirs = sockets[1];
    int result = broker_adopt(copier->broker, sockets[0], CONTEXT_COPIER, 0, &copier->client);
    if (result < 0)
        return result;
    snprintf(path, sizeof path, "%s/dvs-copier", copier->options->libexec);
    char *argv[] = {path, (char *)copier->options->node, NULL};
    strcpy(copier->log.name, "copier");
    pid_t pid = spawn(copier->loop, argv, theirs, &copier->log);
    result = pid < 0 ? (int)pid : loop_child_add(copier->loop, pid, on_end, copier, NULL);
    if (result == 0) {
        copier->pid = pid;
        return 0;
    }
    if (pid > 0) {
        kill(pid, SIGKILL);
        spawn_log_close(&copier->log);
    }
    struct client *client = copier->client;
    copier->client = NULL;
    client_close(client);
    log_error("cannot start the copier: %s", strerror(-result));
    return result;
}

void copier_stop(struct copier *copier) {
    if (!copier->loop)
        return;
    copier->loop = NULL;
    if (copier->pid > 0)
        kill(copier->pid, SIGKILL);
    struct client *client = copier->client;
    copier->client = NULL;
    client_close(client);
    spawn_log_close(&copier->log);
}

void copier_on_client_gone(struct copier *copier, struct client *client) {
    if (!copier->client || copier->client != client)
        return;
    copier->client = NULL;
    if (copier->pid > 0) /* without its socket it can do nothing; the next who wants it starts another */
        kill(copier->pid, SIGKILL);
}
