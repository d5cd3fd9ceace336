/* SPDX-License-Identifier: Apache-2.0 */
#include "common/record_read.h"

#include "common/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define WALL_MAX 1e11 /* seconds since 1970 that a clock may show */

static const struct {
    const char *name, *words;
} events[RECORD_EVENT_END] = {
#define RECORD_ROW(id, name, words) {name, words},
    RECORD_EVENTS(RECORD_ROW)
#undef RECORD_ROW
};

/* What may be anything becomes text that a terminal can take. text[size - 1] is overwritten. */
static const char *make_printable(char *text, size_t size) {
    text[size - 1] = 0;
    for (char *c = text; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    return text;
}

static void text_add(json_t *event, const char *name, const uint64_t *words, unsigned count) {
    char text[RECORDER_WORDS * sizeof(uint64_t) + 1];
    memcpy(text, words, count * sizeof(uint64_t));
    json_object_set_new(event, name, json_string(make_printable(text, count * sizeof(uint64_t) + 1)));
}

static double wall_seconds(const struct recorder_header *header, const struct recorder_entry *entry) {
    double wall = ((double)entry->time_ns + (double)header->wall_minus_mono_ns) / 1e9;
    return wall > 0 && wall < WALL_MAX ? wall : 0;
}

static json_t *word_json(uint64_t word, char kind) {
    char text[40];
    switch (kind) {
    case 'd':
        return json_integer((json_int_t)word);
    case 'x':
        snprintf(text, sizeof text, "0x%" PRIx64, word);
        return json_string(text);
    case 'e': /* slot, and its generation */
        snprintf(text, sizeof text, "%" PRIu64 ".%" PRIu64, word & 0xffffffff, word >> 32);
        return json_string(text);
    default: /* one that JSON cannot hold is told as the largest that it can */
        return json_integer(word > INT64_MAX ? INT64_MAX : (json_int_t)word);
    }
}

static void words_add(json_t *event, const struct recorder_entry *entry) {
    char specification[96];
    snprintf(specification, sizeof specification, "%s", events[entry->event].words);
    char *save = NULL;
    unsigned i = 0;
    for (char *word = strtok_r(specification, " ", &save); word && i < RECORDER_WORDS; word = strtok_r(NULL, " ", &save), i++) {
        char *colon = strchr(word, ':');
        char kind = colon ? colon[1] : 'u';
        if (colon)
            *colon = 0;
        if (kind == 't') {
            text_add(event, word, entry->words + i, RECORDER_WORDS - i);
            return;
        }
        json_object_set_new(event, word, word_json(entry->words[i], kind));
    }
}

static json_t *entry_json(const struct recorder_header *header, const struct recorder_entry *entry) {
    json_t *event = json_object();
    json_object_set_new(event, "n", json_integer((json_int_t)(entry->sequence - 1)));
    json_object_set_new(event, "time", json_integer((json_int_t)entry->time_ns));
    json_object_set_new(event, "wall", json_real(wall_seconds(header, entry)));
    if (entry->event < RECORD_EVENT_END) {
        json_object_set_new(event, "event", json_string(events[entry->event].name));
        if (entry->dc)
            json_object_set_new(event, "dc", json_integer(entry->dc));
        words_add(event, entry);
    } else { /* of a later version */
        char name[24];
        snprintf(name, sizeof name, "event-%u", entry->event);
        json_object_set_new(event, "event", json_string(name));
    }
    return event;
}

static bool header_valid(const struct recorder_header *header) {
    return header->magic == RECORDER_MAGIC && header->version == RECORDER_VERSION && header->capacity == RECORDER_CAPACITY &&
           header->entry_size == sizeof(struct recorder_entry) && header->next <= INT64_MAX;
}

json_t *record_to_json(const void *bytes, const void *again, size_t len, size_t last, struct failure *failure) {
    struct recorder_header header;
    if (len >= sizeof header)
        memcpy(&header, bytes, sizeof header);
    if (len != RECORDER_SIZE || !header_valid(&header)) {
        failure_set(failure, 0, "bad-request", "are both of the same version?", "that is no record of version %u",
                    RECORDER_VERSION);
        return NULL;
    }
    make_printable(header.name, sizeof header.name);
    json_t *list = json_array();
    uint64_t count = header.next < RECORDER_CAPACITY ? header.next : RECORDER_CAPACITY;
    if (count > last)
        count = last;
    for (uint64_t n = header.next - count; n < header.next; n++) {
        struct recorder_entry entry;
        uint64_t sequence;
        size_t at = RECORDER_HEADER_SIZE + n % RECORDER_CAPACITY * sizeof entry;
        memcpy(&entry, (const char *)bytes + at, sizeof entry);
        memcpy(&sequence, (const char *)again + at, sizeof sequence);
        if (entry.sequence == n + 1 && sequence == n + 1)
            json_array_append_new(list, entry_json(&header, &entry));
    }
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "name", header.name, "node",
                     (json_int_t)header.node, "pid", (json_int_t)header.pid, "events", (json_int_t)header.next, "now",
                     (json_int_t)now.tv_sec * 1000000000 + now.tv_nsec, "record", list);
}

static int bytes_read(int fd, char *bytes) {
    for (size_t done = 0; done < RECORDER_SIZE;) {
        ssize_t n = pread(fd, bytes + done, RECORDER_SIZE - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EBADMSG;
        done += (size_t)n;
    }
    return 0;
}

json_t *record_read(int fd, size_t last, struct failure *failure) {
    cleanup_free char *bytes = malloc(RECORDER_SIZE), *again = malloc(RECORDER_SIZE);
    int result = !bytes || !again ? -ENOMEM : bytes_read(fd, bytes);
    if (result == 0)
        result = bytes_read(fd, again);
    if (result < 0) {
        failure_set(failure, result, result == -EBADMSG ? "bad-request" : "internal", NULL, "the record cannot be read: %s",
                    result == -EBADMSG ? "it is too short" : strerror(-result));
        return NULL;
    }
    return record_to_json(bytes, again, RECORDER_SIZE, last, failure);
}

static bool is_head(const char *key) {
    return strcmp(key, "n") == 0 || strcmp(key, "time") == 0 || strcmp(key, "wall") == 0 || strcmp(key, "event") == 0;
}

static void event_print(const json_t *event, FILE *out) {
    double wall = json_real_value(json_object_get(event, "wall"));
    time_t seconds = wall > 0 && wall < WALL_MAX ? (time_t)wall : 0;
    struct tm tm;
    char text[32];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text, "%FT%T", &tm);
    const char *name = field_string(event, "event");
    fprintf(out, "%s.%06.0fZ %-16s", text, (wall - (double)seconds) * 1e6, name ? name : "?");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)event, key, value) {
        if (is_head(key))
            continue;
        if (json_is_string(value))
            fprintf(out, " %s=%s", key, json_string_value(value));
        else
            fprintf(out, " %s=%" JSON_INTEGER_FORMAT, key, json_integer_value(value));
    }
    fputc('\n', out);
}

int record_print(const json_t *record, FILE *out) {
    const json_t *list = json_object_get(record, "record");
    const char *name = field_string(record, "name");
    if (!json_is_array(list) || !name)
        return -1;
    fprintf(out, "%s of node %lld, pid %lld: %zu of %lld events\n", name, (long long)field_integer_or(record, "node", 0, INT32_MAX, 0),
            (long long)field_integer_or(record, "pid", 0, INT32_MAX, 0), json_array_size(list),
            (long long)field_integer_or(record, "events", 0, INT64_MAX, 0));
    size_t i;
    const json_t *event;
    json_array_foreach(list, i, event) event_print(event, out);
    return fflush(out) == 0 ? 0 : -1;
}
