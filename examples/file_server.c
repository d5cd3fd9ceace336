/* SPDX-License-Identifier: Apache-2.0 */
/* file_server DC DIRECTORY: lets the programs of a container read and write the files of one directory of this node. */
#include "example.h"
#include "files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static int directory;

static int name_is_valid(const char *name) {
    size_t length = strnlen(name, FILES_NAME_MAX + 1);
    return length > 0 && length <= FILES_NAME_MAX && name[0] != '.' && !strchr(name, '/');
}

static int size_of(const struct files_request *ask, struct dvk_message *reply) {
    struct stat status;
    if (fstatat(directory, ask->name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return -EISDIR;
    struct files_reply answer = {.size = (uint64_t)status.st_size, .mode = status.st_mode & 0777};
    memcpy(reply->payload.bytes, &answer, sizeof answer);
    return 0;
}

/* Straight from the file into the memory that the reply's data is taken from. */
static int read_chunk(const struct files_request *ask, struct dvk_request *request, struct dvk_message *reply) {
    if (ask->length > request->reply_cap)
        return -EMSGSIZE;
    int fd = openat(directory, ask->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t got = pread(fd, request->reply_data, ask->length, (off_t)ask->offset);
    int error = got < 0 ? -errno : 0;
    close(fd);
    reply->data_len = got < 0 ? 0 : (uint32_t)got;
    return error;
}

static int open_part(const struct files_request *ask, char part[FILES_NAME_MAX + 6]) {
    snprintf(part, FILES_NAME_MAX + 6, "%s.part", ask->name);
    int fd = openat(directory, part, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : fd;
}

/* The data is the sender's memory, which may change while it is read: it is only ever copied. */
static int write_chunk(const struct files_request *ask, const struct dvk_request *request) {
    char part[FILES_NAME_MAX + 6];
    int fd = open_part(ask, part);
    if (fd < 0)
        return fd;
    ssize_t put = pwrite(fd, request->data, request->msg.data_len, (off_t)ask->offset);
    int error = put < 0 ? -errno : put == (ssize_t)request->msg.data_len ? 0 : -ENOSPC;
    if (close(fd) < 0 && error == 0)
        error = -errno;
    return error;
}

static int finish(const struct files_request *ask) {
    char part[FILES_NAME_MAX + 6];
    int fd = open_part(ask, part);
    if (fd < 0)
        return fd;
    int error = 0;
    if (ftruncate(fd, (off_t)ask->size) < 0 || fchmod(fd, ask->mode & 0777) < 0 || fsync(fd) < 0 ||
        renameat(directory, part, directory, ask->name) < 0)
        error = -errno;
    close(fd);
    return error;
}

static void answer(struct dvk *dvk, struct dvk_request *request) {
    struct dvk_message reply = {0};
    struct files_request ask;
    memcpy(&ask, request->msg.payload.bytes, sizeof ask);
    if (!name_is_valid(ask.name))
        reply.status = -EINVAL;
    else if (request->msg.type == FILES_SIZE)
        reply.status = size_of(&ask, &reply);
    else if (request->msg.type == FILES_READ)
        reply.status = read_chunk(&ask, request, &reply);
    else if (request->msg.type == FILES_WRITE)
        reply.status = write_chunk(&ask, request);
    else if (request->msg.type == FILES_FINISH)
        reply.status = finish(&ask);
    else
        reply.status = -ENOSYS;
    dvk_reply(dvk, request, &reply, NULL, 0);
}

int main(int argc, char **argv) {
    uint32_t dc;
    if (argc != 3) {
        fprintf(stderr, "usage: file_server DC DIRECTORY\n");
        return 2;
    }
    directory = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        die(argv[2], -errno);
    struct dvk *dvk = open_dc(argv[1], &dc);
    bind_service(dvk, dc, SERVICE_FILES);
    say_ready(dvk);
    for (;;) {
        struct dvk_request *request;
        int error = dvk_receive(dvk, &request, -1);
        if (error < 0)
            die("receive", error);
        if (request->wants_reply)
            answer(dvk, request);
        else
            dvk_release(dvk, request);
    }
}
