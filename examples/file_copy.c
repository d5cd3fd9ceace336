/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_copy DC NODE:NAME NODE:NAME: copies a file between the directories of two file servers, which may be on any two nodes,
 * this one or others. Several chunks are under way at once: while one travels, the next is read.
 */
#include "example.h"
#include "files.h"

#include <stdbool.h>

#define WINDOW 8 /* chunks under way */

struct place {
    dvk_endpoint server;
    const char *name;
};

struct copy {
    struct dvk *dvk;
    dvk_endpoint self;
    struct place from, to;
    uint64_t size;
    uint64_t next;       /* offset of the first chunk that was not asked for yet */
    unsigned under_way;
    int error;           /* the first one */
};

struct chunk {
    struct copy *copy;
    uint64_t offset;
};

static struct dvk_message request_to(const struct place *place, uint32_t type, uint64_t offset, uint32_t length) {
    struct dvk_message message = {.destination = place->server, .type = type};
    struct files_request ask = {.offset = offset, .length = length};
    snprintf(ask.name, sizeof ask.name, "%s", place->name);
    memcpy(message.payload.bytes, &ask, sizeof ask);
    return message;
}

static void chunk_end(struct chunk *chunk, int error) {
    struct copy *copy = chunk->copy;
    if (error < 0 && copy->error == 0)
        copy->error = error;
    copy->under_way--;
    free(chunk);
    dvk_wake(copy->dvk); /* ends the dvk_receive that we were called from: there may be more to ask for */
}

static void chunk_written(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                          const int *fds, unsigned fd_count) {
    (void)data, (void)data_len, (void)fds, (void)fd_count;
    chunk_end(context, status < 0 ? status : reply->status);
}

/* The data lies in the channel only during this call; dvk_call takes a copy. */
static void chunk_read(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                       const int *fds, unsigned fd_count) {
    (void)fds, (void)fd_count;
    struct chunk *chunk = context;
    struct copy *copy = chunk->copy;
    uint64_t left = copy->size - chunk->offset;
    int error = status < 0 ? status : reply->status;
    if (error == 0 && data_len != (left < FILES_CHUNK ? left : FILES_CHUNK))
        error = -ESTALE; /* the file has become shorter */
    struct dvk_message write = request_to(&copy->to, FILES_WRITE, chunk->offset, 0);
    if (error == 0)
        error = dvk_call(copy->dvk, copy->self, &write, data, data_len, NULL, 0, chunk_written, chunk, NULL);
    if (error < 0)
        chunk_end(chunk, error);
}

static int chunk_start(struct copy *copy) {
    struct chunk *chunk = malloc(sizeof *chunk);
    if (!chunk)
        return -ENOMEM;
    *chunk = (struct chunk){copy, copy->next};
    struct dvk_message read = request_to(&copy->from, FILES_READ, copy->next, FILES_CHUNK);
    int error = dvk_call(copy->dvk, copy->self, &read, NULL, 0, NULL, 0, chunk_read, chunk, NULL);
    if (error < 0) {
        free(chunk);
        return error;
    }
    copy->next += FILES_CHUNK;
    copy->under_way++;
    return 0;
}

/* All chunks: completions run within dvk_receive. What is under way ends by itself, also after an error. */
static int copy_data(struct copy *copy) {
    for (;;) {
        while (copy->error == 0 && copy->under_way < WINDOW && copy->next < copy->size)
            copy->error = chunk_start(copy);
        if (copy->under_way == 0)
            return copy->error;
        struct dvk_request *request;
        int error = dvk_receive(copy->dvk, &request, -1);
        if (error == 0 && request->wants_reply)
            dvk_reply_status(copy->dvk, request, -ENOSYS); /* we serve nobody */
        else if (error == 0)
            dvk_release(copy->dvk, request);
        else if (error != -DVK_EINTERRUPTED)
            return error;
    }
}

static int ask(struct copy *copy, struct dvk_message *message) {
    int error = dvk_sendrec(copy->dvk, copy->self, message, NULL, 0, NULL, 0, NULL, 30000);
    return error < 0 ? error : message->status;
}

static int copy_file(struct copy *copy) {
    struct dvk_message size = request_to(&copy->from, FILES_SIZE, 0, 0);
    int error = ask(copy, &size);
    if (error < 0)
        return error;
    struct files_reply found;
    memcpy(&found, size.payload.bytes, sizeof found);
    copy->size = found.size;
    error = copy_data(copy);
    if (error < 0)
        return error;
    struct dvk_message finish = request_to(&copy->to, FILES_FINISH, 0, 0);
    struct files_request last;
    memcpy(&last, finish.payload.bytes, sizeof last);
    last.size = found.size;
    last.mode = found.mode;
    memcpy(finish.payload.bytes, &last, sizeof last);
    return ask(copy, &finish);
}

static bool place_parse(char *text, struct place *place) {
    char *end;
    unsigned long node = strtoul(text, &end, 10);
    *place = (struct place){dvk_service_endpoint((uint32_t)node, SERVICE_FILES), end + 1};
    return *end == ':' && node >= 1 && node <= DVK_MAX_NODE && end[1] && strlen(end + 1) <= FILES_NAME_MAX;
}

int main(int argc, char **argv) {
    uint32_t dc;
    struct copy copy = {0};
    if (argc != 4 || !place_parse(argv[2], &copy.from) || !place_parse(argv[3], &copy.to)) {
        fprintf(stderr, "usage: file_copy DC NODE:NAME NODE:NAME   (NODE is an id)\n");
        return 2;
    }
    copy.dvk = open_dc(argv[1], &dc);
    copy.self = bind_service(copy.dvk, dc, 0);
    int error = copy_file(&copy);
    if (error < 0)
        die("copy", error);
    printf("%llu bytes\n", (unsigned long long)copy.size);
    dvk_close(copy.dvk);
    return 0;
}
