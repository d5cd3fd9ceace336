/* SPDX-License-Identifier: Apache-2.0 */
/* The flight recorder: what is kept, by threads and through crashes, and what is made of bytes of somebody hostile. */
#include "check.h"

#include "common/cleanup.h"
#include "common/record_read.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

static char directory[SCRATCH_PATH_MAX];

static json_t *read_path(const char *path, size_t last) {
    struct failure failure = {0};
    cleanup_close int fd = open(path, O_RDONLY);
    json_t *record = record_read(fd, last, &failure);
    if (!record)
        print_error("%s\n", failure.message);
    assert_non_null(record);
    return record;
}

static const json_t *event_at(const json_t *record, long from_end) {
    const json_t *list = json_object_get(record, "record");
    const json_t *event = json_array_get(list, json_array_size(list) - (size_t)from_end);
    assert_non_null(event);
    return event;
}

static long long number(const json_t *event, const char *key) {
    json_int_t value = 0;
    assert_true(field_integer(event, key, &value));
    return value;
}

static void words_and_text_are_kept(void **state) {
    char path[200];
    snprintf(path, sizeof path, "%s/one", directory);
    assert_int_equal(record_open(path, "tester", 7), 0);
    record(RECORD_CONNECT_FAIL, 3, (5ull << 32) | 64, 9, (uint64_t)-2012);
    record_text(RECORD_LINK_DOWN, 0, 2, 4, 1, "a reason that is far too long for it\n");
    record(RECORD_CRASH, 0, 11, 0xdeadbeef, UINT64_MAX);
    cleanup_json json_t *record = read_path(path, 100);
    assert_string_equal(field_string(record, "name"), "tester");
    assert_int_equal(number(record, "node"), 7);
    assert_int_equal(json_array_size(json_object_get(record, "record")), 4); /* with the start */
    const json_t *fail = event_at(record, 3), *down = event_at(record, 2), *crash = event_at(record, 1);
    assert_string_equal(field_string(fail, "event"), "connect-fail");
    assert_string_equal(field_string(fail, "from"), "64.5");
    assert_int_equal(number(fail, "dc"), 3);
    assert_int_equal(number(fail, "result"), -2012);
    assert_string_equal(field_string(down, "why"), "a reason that is far too");
    assert_null(json_object_get(down, "dc"));
    assert_string_equal(field_string(crash, "address"), "0xdeadbeef");
    assert_true(number(fail, "time") <= number(down, "time") && number(down, "time") <= number(crash, "time"));
}

static void the_oldest_are_overwritten(void **state) {
    char path[200];
    snprintf(path, sizeof path, "%s/wrap", directory);
    assert_int_equal(record_open(path, "tester", 1), 0);
    for (unsigned i = 0; i < RECORDER_CAPACITY + 10; i++)
        record(RECORD_NODE_UP, 0, i);
    cleanup_json json_t *all = read_path(path, RECORDER_CAPACITY), *few = read_path(path, 3);
    assert_int_equal(json_array_size(json_object_get(all, "record")), RECORDER_CAPACITY);
    assert_int_equal(number(all, "events"), RECORDER_CAPACITY + 11);
    assert_int_equal(number(event_at(all, RECORDER_CAPACITY), "node"), 10);
    assert_int_equal(json_array_size(json_object_get(few, "record")), 3);
    assert_int_equal(number(event_at(few, 1), "node"), RECORDER_CAPACITY + 9);
}

static void the_one_before_is_kept(void **state) {
    char path[200], old[210];
    snprintf(path, sizeof path, "%s/kept", directory);
    snprintf(old, sizeof old, "%s.old", path);
    assert_int_equal(record_open(path, "first", 1), 0);
    assert_int_equal(record_open(path, "second", 1), 0);
    cleanup_json json_t *second = read_path(path, 1), *first = read_path(old, 1);
    assert_string_equal(field_string(second, "name"), "second");
    assert_string_equal(field_string(first, "name"), "first");
    assert_int_equal(record_open("/nowhere/at/all", "x", 1), -ENOENT);
    record(RECORD_NODE_UP, 0, 55); /* goes where it went before */
    cleanup_json json_t *still = read_path(path, 1);
    assert_int_equal(number(event_at(still, 1), "node"), 55);
}

enum { THREADS = 3, EACH = 20000 };

static void *writer(void *context) {
    uint64_t me = (uint64_t)(uintptr_t)context;
    for (uint64_t i = 0; i < EACH; i++)
        record(RECORD_CONNECT, (uint32_t)me, me << 32 | i, me << 32 | i, me << 32 | i, me << 32 | i);
    return NULL;
}

/* What is read while others write is whole. */
static void threads_do_not_tear(void **state) {
    int fd = record_share("threads", 1);
    struct failure failure;
    pthread_t threads[THREADS];
    assert_true(fd >= 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, writer, (void *)(i + 1)), 0);
    size_t seen = 0;
    for (bool over = false; !over;) {
        cleanup_json json_t *record = record_read(fd, RECORDER_CAPACITY, &failure);
        assert_non_null(record);
        over = number(record, "events") == THREADS * EACH + 1;
        size_t i;
        const json_t *event;
        json_array_foreach(json_object_get(record, "record"), i, event) {
            if (strcmp(field_string(event, "event"), "connect") != 0)
                continue;
            seen++;
            assert_string_equal(field_string(event, "from"), field_string(event, "to"));
            assert_int_equal(number(event, "channel"), number(event, "node"));
            assert_int_equal(number(event, "channel") >> 32, number(event, "dc"));
        }
    }
    assert_true(seen >= RECORDER_CAPACITY);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(ftruncate(fd, 0), -1); /* sealed */
    close(fd);
}

static void crash_by(int number_of_signal, bool by_fault, const char *path) {
    signal(number_of_signal, SIG_DFL); /* a sanitizer's would end it in its own way */
    if (record_open(path, "crasher", 1) < 0)
        _exit(1);
    record_crashes();
    record(RECORD_NODE_UP, 0, 77);
    if (!by_fault)
        abort();
    void *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *(volatile char *)page = 1;
    _exit(2);
}

static void crashes_are_recorded(void **state) {
    for (int fault = 0; fault < 2; fault++) {
        char path[200];
        int number_of_signal = fault ? SIGSEGV : SIGABRT, status;
        snprintf(path, sizeof path, "%s/crash%d", directory, fault);
        pid_t pid = fork();
        if (pid == 0)
            crash_by(number_of_signal, fault, path);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == number_of_signal); /* its course is not changed */
        cleanup_json json_t *record = read_path(path, 10);
        assert_string_equal(field_string(event_at(record, 1), "event"), "crash");
        assert_int_equal(number(event_at(record, 1), "signal"), number_of_signal);
        assert_int_equal(number(event_at(record, 2), "node"), 77);
    }
}

static void killed_leaves_its_record(void **state) {
    char path[200];
    int status;
    snprintf(path, sizeof path, "%s/killed", directory);
    pid_t pid = fork();
    if (pid == 0) {
        if (record_open(path, "killed", 1) == 0)
            record(RECORD_NODE_UP, 0, 78);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    cleanup_json json_t *record = read_path(path, 10);
    assert_int_equal(number(event_at(record, 1), "node"), 78);
}

static void what_is_no_record_is_refused(void **state) {
    struct failure failure;
    cleanup_free char *bytes = calloc(1, RECORDER_SIZE);
    struct recorder_header *header = (void *)bytes;
    struct recorder_entry *entries = (void *)(bytes + RECORDER_HEADER_SIZE);
    assert_null(record_to_json(bytes, bytes, RECORDER_SIZE, 10, &failure));
    assert_string_equal(failure.code, "bad-request");
    *header = (struct recorder_header){RECORDER_MAGIC, RECORDER_VERSION, RECORDER_CAPACITY, sizeof *entries};
    assert_null(record_to_json(bytes, bytes, RECORDER_SIZE - 1, 10, &failure));
    assert_null(record_to_json(bytes, bytes, 5, 10, &failure));
    memset(header->name, 0xff, sizeof header->name);
    header->next = 3;
    header->wall_minus_mono_ns = INT64_MAX;
    entries[0] = (struct recorder_entry){.sequence = 1, .event = 4000000000u, .time_ns = UINT64_MAX};
    entries[1] = (struct recorder_entry){.sequence = 77, .event = RECORD_NODE_UP}; /* of another round */
    entries[2] = (struct recorder_entry){.sequence = 3, .event = RECORD_LOG};
    memset(entries[2].words, '\33', sizeof entries[2].words);
    cleanup_json json_t *record = record_to_json(bytes, bytes, RECORDER_SIZE, 10, &failure);
    assert_non_null(record);
    assert_int_equal(json_array_size(json_object_get(record, "record")), 2);
    assert_string_equal(field_string(event_at(record, 2), "event"), "event-4000000000");
    assert_string_equal(field_string(event_at(record, 1), "text"), "????????????????????????????????????????");
    cleanup_free char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_int_equal(record_print(record, out), 0);
    fclose(out);
    assert_null(strchr(text, '\33'));
    header->next = UINT64_MAX;
    assert_null(record_to_json(bytes, bytes, RECORDER_SIZE, 10, &failure));
}

int main(void) {
    scratch_directory(directory);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_and_text_are_kept),      cmocka_unit_test(the_oldest_are_overwritten),
        cmocka_unit_test(the_one_before_is_kept),       cmocka_unit_test(threads_do_not_tear),
        cmocka_unit_test(crashes_are_recorded),         cmocka_unit_test(killed_leaves_its_record),
        cmocka_unit_test(what_is_no_record_is_refused),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
