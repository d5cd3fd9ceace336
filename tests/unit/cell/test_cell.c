/* SPDX-License-Identifier: Apache-2.0 */
/* dvs-cell as a whole, with a played dvkd, dvs-vos and personality. Needs root; skipped without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/json.h"
#include "fake_dvkd.h"
#include "scratch.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>

#ifndef CELL_PROGRAM
#error "the build names the programs"
#endif
#define UID_BASE "1879048192"

struct run {
    struct fake_dvkd *fake;
    int client;
    pid_t pid;
    int errors; /* its standard error */
    char dir[SCRATCH_PATH_MAX];
    char cgroup[64];
};

static void pause_ms(unsigned ms) {
    (void)nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL);
}

static int setup(void **state) {
    static struct run run;
    run = (struct run){.errors = -1};
    if (geteuid() != 0)
        return 0;
    char path[256];
    snprintf(run.cgroup, sizeof run.cgroup, "cell-test-%d", getpid());
    scratch_directory(run.dir);
    snprintf(path, sizeof path, "%s/dvs-vos", run.dir);
    if (symlink(VOS_PROGRAM, path))
        return -1;
    snprintf(path, sizeof path, "%s/dvs-personality", run.dir);
    if (symlink(GUEST_PROGRAM, path))
        return -1;
    snprintf(path, sizeof path, "%s/upper", run.dir);
    if (mkdir(path, 0755) || chown(path, (uid_t)atoi(UID_BASE), (gid_t)atoi(UID_BASE)))
        return -1;
    snprintf(path, sizeof path, "%s/volume", run.dir);
    if (mkdir(path, 0755))
        return -1;
    snprintf(path, sizeof path, "%s/volume/mine", run.dir);
    cleanup_close int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    run.fake = fake_start(1);
    *state = &run;
    return fd < 0 ? -1 : 0;
}

static int teardown(void **state) {
    struct run *run = *state;
    char command[128];
    if (!run)
        return 0;
    if (run->pid > 0) {
        kill(run->pid, SIGKILL);
        waitpid(run->pid, NULL, 0);
    }
    fake_stop(run->fake);
    if (run->errors >= 0)
        close(run->errors);
    snprintf(command, sizeof command, "rm -rf %s", run->dir);
    return system(command);
}

static void cell_start(struct run *run, const char *image, const char *cgroup) {
    char upper[96], volume[128];
    int output[2], broker = fake_client(run->fake, false, &run->client);
    assert_int_equal(pipe2(output, O_CLOEXEC), 0);
    if (run->errors >= 0)
        close(run->errors);
    snprintf(upper, sizeof upper, "%s/upper", run->dir);
    snprintf(volume, sizeof volume, "node=1,src=%s/volume,dst=/data,ro", run->dir);
    run->pid = fork();
    assert_true(run->pid >= 0);
    if (!run->pid) {
        dup2(output[1], 2);
        if (broker == 3)
            fcntl(3, F_SETFD, 0);
        else
            dup2(broker, 3);
        execl(CELL_PROGRAM, "dvs-cell", "--dc", "7", "--name", "probe", "--node", "1", "--nodes", "1=a,2=b",
              "--primary", "1", "--image", image, "--upper", upper, "--uid-base", UID_BASE, "--mount", volume,
              "--mount", "node=2,src=/elsewhere,dst=/more", "--cgroup", cgroup, "--strict", "--libexec", run->dir,
              (char *)NULL);
        _exit(126);
    }
    close(broker);
    close(output[1]);
    run->errors = output[0];
}

/* Exit code, or 1000 + signal; the first 500 bytes of standard error in *text. */
static int cell_end(struct run *run, char text[512]) {
    int status;
    size_t len = 0;
    for (ssize_t count; len < 500 && (count = read(run->errors, text + len, 500 - len)) > 0;)
        len += (size_t)count;
    text[len] = 0;
    assert_int_equal(waitpid(run->pid, &status, 0), run->pid);
    run->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static bool group_exists(const struct run *run) {
    char path[256];
    static const char *const mounts[] = {"/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup"};
    for (size_t i = 0; i < ARRAY_LENGTH(mounts); i++) {
        snprintf(path, sizeof path, "%s/dvs/%s", mounts[i], run->cgroup);
        if (!access(path, F_OK))
            return true;
    }
    return false;
}

static void await_ready(struct run *run) {
    cleanup_free char *event = fake_control_answer(run->fake);
    if (!event || !strstr(event, "ready")) {
        char text[512];
        kill(run->pid, SIGTERM);
        cell_end(run, text);
        fail_msg("not ready: %s; %s", event ? event : "(nothing)", text);
    }
}

static char *control(struct run *run, const char *request) {
    static uint64_t id;
    fake_control(run->fake, run->client, ++id, request);
    return fake_control_answer(run->fake);
}

/* The probe's log, once it holds `text`. The caller frees it. */
static char *await_log(struct run *run, const char *text) {
    char *log = NULL;
    for (int i = 0; i < 100; i++) {
        free(log);
        log = control(run, "{\"op\": \"log\"}");
        assert_non_null(log);
        if (strstr(log, text))
            return log;
        pause_ms(20);
    }
    fail_msg("'%s' is not in the log: %s", text, log);
    return NULL;
}

static void expect_kill(struct run *run, int pid, int signal) {
    char request[80];
    snprintf(request, sizeof request, "{\"op\": \"kill\", \"pid\": %d, \"signal\": %d}", pid, signal);
    cleanup_free char *answer = control(run, request);
    assert_string_equal(answer, "{\"errno\": 0}");
}

/* A life from start to stop: confinement of servers and guests, reports, an orderly end. */
static void test_life(void **state) {
    struct run *run = *state;
    char text[512];
    if (!run)
        skip();
    cell_start(run, "host", run->cgroup);
    await_ready(run);
    assert_true(group_exists(run));
    cleanup_free char *log = await_log(run, "state 64 code");
    if (strstr(log, "FAILED") || !strstr(log, "state 64 code 1 status 42 rusage"))
        fail_msg("%s", log);
    struct statfs system;
    assert_int_equal(statfs(run->dir, &system), 0);
    if (system.f_type != OVERLAYFS_SUPER_MAGIC && !strstr(log, "volume uid 0;")) /* overlayfs cannot be id-mapped */
        fail_msg("the volume is not id-mapped: %s", log);
    /* Stop signals work on guests though their parent is in another process group. */
    expect_kill(run, 70, SIGTSTP);
    free(await_log(run, "state 70 code 5 status 20"));
    expect_kill(run, 70, SIGCONT);
    free(await_log(run, "state 70 code 6 status 18"));
    expect_kill(run, 70, SIGSTOP);
    free(await_log(run, "state 70 code 5 status 19"));
    expect_kill(run, 70, SIGKILL);
    free(await_log(run, "state 70 code 2 status 9"));
    kill(run->pid, SIGTERM);
    assert_int_equal(cell_end(run, text), 0);
    assert_string_equal(text, "");
    assert_false(group_exists(run));
}

static void test_stop_by_servers(void **state) {
    struct run *run = *state;
    char text[512];
    if (!run)
        skip();
    cell_start(run, "host", run->cgroup);
    await_ready(run);
    cleanup_free char *answer = control(run, "{\"op\": \"stop\"}");
    assert_string_equal(answer, "{}");
    assert_int_equal(cell_end(run, text), 0);
    assert_false(group_exists(run));
}

static void test_servers_die(void **state) {
    struct run *run = *state;
    char text[512];
    if (!run)
        skip();
    cell_start(run, "host", run->cgroup);
    await_ready(run);
    fake_control(run->fake, run->client, 1, "{\"op\": \"crash\"}");
    assert_int_equal(cell_end(run, text), 1);
    assert_string_equal(text, "dvs-cell: dvs-vos was ended by signal 6 (Aborted)\n");
    assert_false(group_exists(run));
}

static void test_dvkd_dies(void **state) {
    struct run *run = *state;
    char text[512];
    if (!run)
        skip();
    cell_start(run, "host", run->cgroup);
    await_ready(run);
    fake_drop(run->fake, run->client);
    assert_int_equal(cell_end(run, text), 1);
    assert_non_null(strstr(text, "dvkd"));
    assert_false(group_exists(run));
}

static void test_zygote_dies(void **state) {
    struct run *run = *state;
    char text[512];
    if (!run)
        skip();
    cell_start(run, "host", run->cgroup);
    await_ready(run);
    free(await_log(run, "state 64 code"));
    fake_control(run->fake, run->client, 1, "{\"op\": \"kill\", \"pid\": 63, \"signal\": 9}");
    assert_int_equal(cell_end(run, text), 1);
    assert_string_equal(text, "dvs-cell: the zygote was ended by signal 9 (Killed)\n");
}

/* A killed dvs-cell takes its cell along; the cgroup that it leaves is taken over by the next. */
static void test_killed(void **state) {
    struct run *run = *state;
    char text[512];
    if (!run)
        skip();
    cell_start(run, "host", run->cgroup);
    await_ready(run);
    kill(run->pid, SIGKILL);
    assert_int_equal(cell_end(run, text),
                     1000 + SIGKILL); /* ends only when no process of the cell holds standard error */
    assert_true(group_exists(run));
    char path[256];
    snprintf(path, sizeof path, "rm %s/upper/made %s/upper/fifo", run->dir, run->dir);
    assert_int_equal(system(path), 0);
    cell_start(run, "host", run->cgroup);
    await_ready(run);
    kill(run->pid, SIGTERM);
    assert_int_equal(cell_end(run, text), 0);
    assert_false(group_exists(run));
}

static void test_bad_image(void **state) {
    struct run *run = *state;
    char text[512];
    if (!run)
        skip();
    cell_start(run, "/no/such/directory", run->cgroup);
    assert_int_equal(cell_end(run, text), 1);
    assert_string_equal(text, "dvs-cell: cannot open the image /no/such/directory: No such file or directory\n");
    cell_start(run, "/etc/passwd", run->cgroup);
    assert_int_equal(cell_end(run, text), 1);
    assert_string_equal(text, "dvs-cell: cannot open the image /etc/passwd: Not a directory\n");
    assert_false(group_exists(run));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_life),      TEST(test_stop_by_servers), TEST(test_servers_die),
                                       TEST(test_dvkd_dies), TEST(test_zygote_dies),     TEST(test_killed),
                                       TEST(test_bad_image)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
