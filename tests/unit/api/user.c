/* SPDX-License-Identifier: Apache-2.0 */
/* A program outside the project, in the C that C++ understands too: what it needs is what is installed. */
#include <dvk/dvk.h>
#include <stdio.h>
#include <string.h>

/* A name that libdvk uses inside: it must not clash. */
int broker_send(void);
int broker_send(void) { return 7; }

static void done(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                 const int *fds, unsigned fd_count) {
    (void)context, (void)status, (void)reply, (void)data, (void)data_len, (void)fds, (void)fd_count;
}

int main(void) {
    struct dvk *dvk = NULL;
    dvk_done *callback = done;
    int result = dvk_open("/nonexistent/dvkd.sock", &dvk);
    printf("%s\n", dvk_strerror(result));
    dvk_close(dvk);
    return callback && broker_send() == 7 && result == -DVK_ENODAEMON &&
                   dvk_endpoint_slot(dvk_endpoint_make(1, 70)) == 70 && sizeof(struct dvk_message) == DVK_MESSAGE_SIZE
               ? 0
               : 1;
}
