/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command's socket of a dvkd alone, without programs to start: any bytes as requests, in any pieces, with and without
 * descriptors. Each input line is one connection. What is answered is JSON, a line each.
 */
#include "common/log.h"
#include "dvkd/api.h"
#include "dvkd/places.h"
#include "dvkd/run.h"
#include "dvkd/slots.h"
#include "input.h"
#include "jail.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct dvkd dvkd;
static int null_fd;

static void run_loop(void) {
    for (int i = 0; i < 4; i++)
        MUST(loop_step(dvkd.loop, 0) == 0);
}

static void send_piece(int fd, const uint8_t *bytes, size_t len, bool with_fds) {
    union {
        char space[CMSG_SPACE(3 * sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    int fds[3] = {null_fd, null_fd, null_fd};
    struct iovec part = {(void *)bytes, len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (with_fds) {
        message.msg_control = control.space;
        message.msg_controllen = sizeof control.space;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){CMSG_LEN(sizeof fds), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(header), fds, sizeof fds);
    }
    (void)sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void check_answer(int fd) {
    static char buffer[1 << 16];
    size_t len = 0;
    ssize_t n;
    while ((n = recv(fd, buffer + len, sizeof buffer - 1 - len, MSG_DONTWAIT)) > 0)
        len += (size_t)n;
    char *end = memchr(buffer, '\n', len);
    if (!end)
        return;
    json_error_t error;
    json_t *answer = json_loadb(buffer, (size_t)(end - buffer), 0, &error);
    MUST(json_is_object(answer));
    json_decref(answer);
}

static void connection(const uint8_t *bytes, size_t len) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/dvs.sock", dvkd.options.run);
    MUST(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    uint8_t how = len ? bytes[0] : 0;
    size_t first = how & 1 ? len / 2 : len;
    send_piece(fd, bytes, first, !(how & 2));
    run_loop();
    send_piece(fd, bytes + first, len - first, false);
    send_piece(fd, (const uint8_t *)"\n", 1, false);
    run_loop();
    check_answer(fd);
    close(fd);
    run_loop();
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    log_init("fuzz");
    jail_enter();
    char run[] = "/tmp/dvs-fuzz-XXXXXX";
    MUST(mkdtemp(run));
    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    dvkd.options = (struct options){.node = "a", .id = 1};
    strcpy(dvkd.options.run, run);
    strcpy(dvkd.options.libexec, "/nonexistent");
    strcpy(dvkd.options.state, run);
    struct replica_port port = dvkd_replica_port;
    struct broker_host broker_host = dvkd_broker_host;
    struct cells_host cells_host = dvkd_cells_host;
    struct config_node self = {.id = 1, .name = "a", .cpus = 1};
    port.context = broker_host.context = cells_host.context = &dvkd;
    list_init(&dvkd.loopback);
    list_init(&dvkd.sessions);
    list_init(&dvkd.removal_waits);
    MUST(loop_create(&dvkd.loop) == 0);
    broker_init(&dvkd.broker, dvkd.loop, 1, 1000, &broker_host);
    cells_init(&dvkd.cells, dvkd.loop, &dvkd.broker, &dvkd.options, &cells_host);
    MUST(replica_create(dvkd.loop, NULL, config_new(), &self, &port, &dvkd.replica) == 0);
    MUST(slots_start(&dvkd) == 0 && places_start(&dvkd) == 0 && dvkd_services_start(&dvkd) == 0);
    dvkd_start_alone(&dvkd);
    MUST(api_start(&dvkd, &dvkd.api) == 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = data + size;
    for (unsigned lines = 0; data < end && lines < 8; lines++) {
        const uint8_t *line_end = memchr(data, '\n', (size_t)(end - data));
        size_t len = line_end ? (size_t)(line_end - data) : (size_t)(end - data);
        connection(data, len);
        data += len + 1;
    }
    run_loop();
    return 0;
}
