/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays dvs-vos for the test of dvs-cell: the real host with one module in place of all servers, which writes down what
 * it finds of its own confinement and what init reports, and answers these control requests:
 *   {"op": "log"}                     {"log": text}
 *   {"op": "kill", "pid", "signal"}   {"errno": n}
 *   {"op": "crash"}                   no answer
 */
#include "cell/init_protocol.h"
#include "common/cleanup.h"
#include "common/json.h"
#include "vos/host/confine.h"
#include "vos/host/host.h"
#include "vos/host/options.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

static char text[8192];

static __attribute__((format(printf, 1, 2))) void note(const char *format, ...) {
    size_t at = strlen(text);
    va_list list;
    va_start(list, format);
    vsnprintf(text + at, sizeof text - at, format, list);
    va_end(list);
}

static void expect(bool good, const char *what) {
    if (!good)
        note("FAILED %s (%s); ", what, strerror(errno));
}

static bool readable(int dir, const char *path) {
    cleanup_close int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    char byte;
    return fd >= 0 && read(fd, &byte, 1) == 1;
}

static void confinement_check(struct vos *vos) {
    struct stat stat;
    char name[64] = "";
    expect(getuid() == 0 && getgid() == 0 && getpid() == 2, "root of the cell, pid 2");
    expect(access("/etc", F_OK) && access("/proc", F_OK) && access("/mnt", F_OK), "empty root");
    expect(mkdir("/x", 0700) && errno == EROFS, "read-only root");
    expect(mount("none", "/", "tmpfs", 0, NULL) && errno == EPERM, "no mount");
    expect(kill(1, 0) == 0, "sees init");
    cap_t set = cap_get_proc();
    cap_flag_value_t value;
    expect(!cap_get_flag(set, CAP_SYS_ADMIN, CAP_PERMITTED, &value) && !value, "no CAP_SYS_ADMIN");
    expect(!cap_get_flag(set, CAP_SETUID, CAP_EFFECTIVE, &value) && value, "CAP_SETUID");
    expect(!cap_get_flag(set, CAP_SETUID, CAP_INHERITABLE, &value) && !value, "nothing inheritable");
    expect(cap_get_bound(CAP_SYS_ADMIN) == 0 && cap_get_ambient(CAP_SETUID) == 0, "bounding and ambient");
    cap_free(set);
    expect(!gethostname(name, sizeof name) && !strcmp(name, "probe"), "host name");
    expect(readable(vos->image_fd, "etc/passwd"), "image");
    expect(!readable(vos->image_fd, "etc/shadow") && errno == EACCES, "image as a stranger");
    expect(openat(vos->image_fd, "x", O_CREAT | O_RDWR, 0600) < 0 && errno == EROFS, "image read-only");
    expect(!fstatat(vos->attr_fd, "etc/shadow", &stat, 0), "attributes");
    note("attr uid %u; ", stat.st_uid);
    int fd = openat(vos->upper_fd, "made", O_CREAT | O_RDWR | O_EXCL, 0640);
    expect(fd >= 0 && !fchown(fd, 1234, 1234) && !fstat(fd, &stat) && stat.st_uid == 1234, "writable layer");
    expect(mknodat(vos->upper_fd, "dev", S_IFBLK | 0600, 0) && errno == EPERM, "no device nodes");
    expect(mknodat(vos->upper_fd, "fifo", S_IFIFO | 0600, 0) == 0, "FIFOs");
    close(fd);
    fd = openat(vos->dev_fd, "null", O_RDWR);
    expect(fd >= 0 && write(fd, "x", 1) == 1 && !fstat(fd, &stat) && S_ISCHR(stat.st_mode) && stat.st_uid == 0, "null");
    close(fd);
    expect(readable(vos->dev_fd, "zero") && readable(vos->dev_fd, "urandom") && readable(vos->dev_fd, "random"),
           "devices");
    expect(readable(vos->proc_fd, "1/stat") && readable(vos->proc_fd, "self/stat") && readable(vos->proc_fd, "2/maps"),
           "proc");
    fd = openat(vos->pts_fd, "ptmx", O_RDWR | O_NOCTTY);
    int unlocked = 0;
    expect(fd >= 0 && !ioctl(fd, TIOCSPTLCK, &unlocked) && ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY) >= 0, "ptmx");
    close(fd);
    expect(vos->mount_count == 2 && vos->mounts[0].dir_fd >= 0 && vos->mounts[1].dir_fd < 0 &&
               vos->mounts[0].read_only && !strcmp(vos->mounts[0].path, "/data"),
           "mounts");
    expect(!fstat(vos->mounts[0].dir_fd, &stat), "volume");
    fd = openat(vos->mounts[0].dir_fd, "mine", O_RDONLY);
    expect((fd >= 0) == (stat.st_uid == 0), "file in the volume"); /* nobody's, where it is not id-mapped */
    note("volume uid %u; ", stat.st_uid);
    if (fd >= 0)
        close(fd);
    fd = openat(vos->proc_fd, "self/cgroup", O_RDONLY);
    ssize_t count = fd < 0 ? -1 : read(fd, text + strlen(text), sizeof text / 2);
    expect(count > 0 && !strstr(text, "dvs/"), "cgroup namespace");
    close(fd);
    note("slots %u cpus %u; ", vos->slot_limit, vos->cpu_count);
}

static void init_event(void *context, int fd, uint32_t events) {
    struct init_packet packet;
    while (recv(fd, &packet, sizeof packet, 0) == (ssize_t)sizeof packet)
        if (packet.magic == INIT_PROTOCOL_MAGIC && packet.type == INIT_STATE)
            note("state %d code %d status %d %s; ", packet.pid, packet.code, packet.status,
                 packet.rusage.minflt > 0 ? "rusage" : "no-rusage");
}

static int probe_start(struct vos *vos) {
    confinement_check(vos);
    return dvk_watch_fd(vos->dvk, vos->init_fd, EPOLLIN, init_event, vos);
}

static void probe_request(struct vos *vos, struct dvk_request *req) {
    note("request %x of slot %x; ", req->msg.type, dvk_endpoint_slot(req->msg.source));
    dvk_reply_status(vos->dvk, req, -ENOSYS);
}

/* When there are guests, there are no namespaces to be had. */
static void limit_check(struct vos *vos) {
    cleanup_close int fd = openat(vos->proc_fd, "sys/user/max_user_namespaces", O_RDONLY | O_CLOEXEC);
    char digit = 'x';
    if (strstr(text, "state 64") && (fd < 0 || read(fd, &digit, 1) != 1 || digit != '0'))
        note("FAILED no user namespaces");
}

static bool probe_control(struct vos *vos, const char *op, const struct dvk_event *event) {
    cleanup_json json_t *request = json_loads(event->text, 0, NULL), *answer = NULL;
    if (!strcmp(op, "crash"))
        abort();
    if (!strcmp(op, "kill"))
        answer = json_pack("{s:i}", "errno",
                           kill((pid_t)field_integer_or(request, "pid", 1, 1 << 20, 0),
                                (int)field_integer_or(request, "signal", 0, 64, 0))
                               ? errno
                               : 0);
    else if (!strcmp(op, "log") && (limit_check(vos), true))
        answer = json_pack("{s:s}", "log", text);
    else
        return false;
    cleanup_free char *dump = json_dumps(answer, 0);
    return !dvk_control_reply(vos->dvk, event->id, dump);
}

static const struct vos_module probe_module = {.name = "probe",
                                               .service = DVK_SERVICE_PM,
                                               .start = probe_start,
                                               .request = probe_request,
                                               .control = probe_control};
static const struct vos_module *const modules[] = {&probe_module, NULL};

int main(int argc, char **argv) {
    struct failure failure = {0};
    struct vos *vos = calloc(1, sizeof *vos);
    int broker_fd;
    if (host_options_parse(argc, argv, vos, &broker_fd, &failure) || confine_enter(vos, &failure)) {
        fprintf(stderr, "vos_probe: %s\n", failure.message);
        return 1;
    }
    (void)fcntl(vos->init_fd, F_SETFL, O_NONBLOCK);
    if (dvk_open_fd(broker_fd, &vos->dvk))
        return 1;
    host_run(vos, modules, &failure);
    fprintf(stderr, "vos_probe: %s\n", failure.message);
    return 1;
}
