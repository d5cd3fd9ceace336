/* SPDX-License-Identifier: Apache-2.0 */
/* dvs-copier [NODE_NAME], with dvkd's socket as descriptor 3. */
#include "common/log.h"
#include "copier/copy.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define BROKER_FD 3
#define NOBODY 65534u

/* What is granted comes as descriptors; nothing else is needed. */
static int rights_drop(void) {
    if (geteuid() == 0 &&
        (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0))
        return -errno;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

static void on_grant(void *context, const struct dvk_broker_packet *head, const void *text, int *fds,
                     unsigned fd_count) {
    struct copier *copier = context;
    if (head->type == DVK_BROKER_GRANT_MADE) {
        int none = -1, error = grants_made(&copier->grants, head, text, fd_count ? &fds[0] : &none);
        if (error < 0)
            log_error("a grant is lost: %s", strerror(-error));
        return;
    }
    grants_gone(&copier->grants, head);
    if (head->id)
        dvk_copier_done(copier->dvk, head->id);
}

/* Until dvkd goes away. */
static int serve(struct copier *copier) {
    for (;;) {
        struct dvk_request *req;
        int error = dvk_receive(copier->dvk, &req, list_is_empty(&copier->work) ? -1 : 0);
        if (error == 0)
            copy_request(copier, req);
        else if (error != -DVK_ETIMEDOUT && error != -DVK_EINTERRUPTED)
            return error;
        if (!list_is_empty(&copier->work))
            copy_turn(copier);
    }
}

int main(int argc, char **argv) {
    static struct copier copier;
    char name[80];
    if (argc > 2) {
        fprintf(stderr, "usage: dvs-copier [NODE_NAME]  (started by dvkd)\n");
        return 2;
    }
    snprintf(name, sizeof name, "copier[%.60s]", argc == 2 ? argv[1] : "");
    log_init(name);
    signal(SIGPIPE, SIG_IGN);
    list_init(&copier.work);
    grants_init(&copier.grants);
    int error = rights_drop();
    if (error < 0) {
        log_error("cannot give up rights: %s", strerror(-error));
        return 1;
    }
    /* grants may come right behind the answer to the greeting */
    error = dvk_copier_open(BROKER_FD, on_grant, &copier, &copier.dvk);
    if (error < 0) {
        log_error("cannot reach dvkd: %s", dvk_strerror(error));
        return 1;
    }
    dvk_on_cancel(copier.dvk, copy_cancelled, &copier);
    error = serve(&copier);
    log_debug("ends: %s", dvk_strerror(error));
    dvk_close(copier.dvk);
    grants_free(&copier.grants);
    return 1;
}
