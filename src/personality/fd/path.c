/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Path arguments. fs resolves paths; but what /proc/self/fd/N, /dev/fd/N, /dev/stdin and /proc/self/exe point to is
 * known only here, since descriptors are the personality's. Such names are recognised by their text (and, below a
 * descriptor of /proc/self/fd, by that): a link elsewhere that leads to one of them is not.
 */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"

/* Text behind "/proc/self/" or its like for this process; NULL if it is none. */
static const char *after_proc_self(const char *text) {
    const char *rest = text_after(text, "/proc/");
    if (!rest)
        return NULL;
    const char *name = text_after(rest, "self/");
    if (name || (name = text_after(rest, "thread-self/")))
        return name;
    int64_t pid = decimal_parse(&rest, DVK_USER_SLOTS);
    if (pid <= 0 || *rest != '/' || pid != host_call(__NR_getpid, 0, 0, 0, 0, 0, 0))
        return NULL;
    return rest + 1;
}

static bool at_component_end(const char *text) {
    return *text == 0 || *text == '/';
}

/* Text behind the name of the descriptors' directory ("/dev/fd", "/proc/self/fd"), or NULL. */
static const char *after_fd_directory(const char *text) {
    const char *rest = text_after(text, "/dev/fd");
    if (!rest) {
        rest = after_proc_self(text);
        if (rest)
            rest = text_after(rest, "fd");
    }
    return rest && at_component_end(rest) ? rest : NULL;
}

/* Which descriptor the text names; *rest is what follows. -1: none. -2: the directory itself. */
static int parse_descriptor(const char *text, const char **rest) {
    static const char *const standard[] = {"/dev/stdin", "/dev/stdout", "/dev/stderr"};
    for (int i = 0; i < 3; i++)
        if ((*rest = text_after(text, standard[i])) && **rest == 0)
            return i;
    *rest = after_fd_directory(text);
    if (!*rest)
        return -1;
    while (**rest == '/')
        (*rest)++;
    if (!**rest)
        return -2;
    int64_t vfd = decimal_parse(rest, FD_LIMIT_MAX - 1);
    return vfd >= 0 && at_component_end(*rest) ? (int)vfd : -1;
}

static bool file_is_directory(const struct file *file) {
    return file->kind == FS_KIND_DIR || file->kind == FS_KIND_PATH;
}

/* Descriptor `vfd`'s entry in /proc/self/fd, followed by `rest` (empty, or '/' and more). */
static long place_descriptor(struct task *task, struct place *place, int vfd, const char *rest, unsigned flags) {
    struct file *file = fd_use(task, vfd);
    if (!file)
        return -ENOENT;
    if (place->file)
        fd_done(task, place->file);
    place->file = file;
    place->vfd = vfd;
    if (!*rest) {
        place->kind = flags & PLACE_FOLLOW ? PLACE_FILE : PLACE_FD_LINK;
        return 0;
    }
    while (*rest == '/')
        rest++;
    if (!file_is_directory(file)) {
        place_end(task, place);
        return -ENOTDIR;
    }
    place->dir = file->handle;
    if (!*rest) { /* "/proc/self/fd/3/": the directory */
        place->kind = PLACE_FILE;
        return 0;
    }
    place->length -= (size_t)(rest - place->text);
    place->text = rest;
    return 0;
}

/* place->text is known: see whether it is one of ours. */
static long place_inspect(struct task *task, struct place *place, unsigned flags) {
    const char *text = place->text;
    if (text[0] != '/' || flags & PLACE_DIRECT || (text[1] != 'p' && text[1] != 'd'))
        return 0;
    const char *rest;
    int vfd = parse_descriptor(text, &rest);
    if (vfd >= 0)
        return place_descriptor(task, place, vfd, rest, flags);
    if (vfd == -2) {
        /* "/dev/fd" is itself a link, which fs knows: it is not followed when asked about without a slash behind. */
        if (text[1] == 'd' && !(flags & PLACE_FOLLOW) && text[7] == 0)
            return 0;
        place->kind = PLACE_FD_DIRECTORY;
        return 0;
    }
    const char *name = after_proc_self(text);
    if (name && (name = text_after(name, "exe")) && *name == 0) {
        if (!(flags & PLACE_FOLLOW)) {
            place->kind = PLACE_EXE_LINK;
            return 0;
        }
        place->text = process_exe(task->process);
        place->length = text_length(place->text);
    }
    return 0;
}

/* A path relative to a descriptor of /proc/self/fd. */
static long place_in_fd_directory(struct task *task, struct place *place, unsigned flags) {
    const char *rest = place->text;
    while (rest[0] == '.' && rest[1] == '/')
        rest += 2;
    if (rest[0] == '.' && rest[1] == 0) {
        place->kind = PLACE_FD_DIRECTORY;
        return 0;
    }
    int64_t vfd = decimal_parse(&rest, FD_LIMIT_MAX - 1);
    long result = vfd >= 0 && at_component_end(rest) ? place_descriptor(task, place, (int)vfd, rest, flags) : -ENOENT;
    if (result < 0)
        place_end(task, place);
    return result;
}

static long place_relative(struct task *task, struct place *place, int dirfd, unsigned flags) {
    place->file = fd_use(task, dirfd);
    if (!place->file)
        return -EBADF;
    place->vfd = dirfd;
    if (place->length == 0) {
        place->kind = PLACE_FILE;
        return 0;
    }
    if (place->file->kind == FILE_FD_DIRECTORY)
        return place_in_fd_directory(task, place, flags);
    if (!file_is_directory(place->file)) {
        place_end(task, place);
        return -ENOTDIR;
    }
    place->dir = place->file->handle;
    return 0;
}

static void place_start(struct place *place) {
    place->kind = PLACE_PATH;
    place->file = NULL;
    place->vfd = -1;
    place->dir = VOS_CWD;
    place->text = place->buffer;
    place->length = 0;
}

long place_resolve(struct task *task, struct place *place, int dirfd, uint64_t path, unsigned flags) {
    place_start(place);
    long length = guest_string(place->buffer, path, sizeof(place->buffer));
    if (length < 0)
        return length;
    place->length = (size_t)length;
    if (length == 0) {
        if (!(flags & PLACE_EMPTY))
            return -ENOENT;
        if (dirfd != AT_FDCWD)
            return place_relative(task, place, dirfd, flags);
        place->buffer[0] = '.';
        place->buffer[1] = 0;
        place->length = 1;
        return 0;
    }
    if (place->buffer[0] == '/')
        return place_inspect(task, place, flags);
    if (dirfd == AT_FDCWD)
        return 0;
    return place_relative(task, place, dirfd, flags);
}

long place_resolve_text(struct task *task, struct place *place, const char *path, unsigned flags) {
    place_start(place);
    place->length = text_length(path);
    if (place->length == 0)
        return -ENOENT;
    if (place->length >= sizeof(place->buffer))
        return -ENAMETOOLONG;
    __builtin_memcpy(place->buffer, path, place->length + 1);
    return place_inspect(task, place, flags);
}

long place_of_fd(struct task *task, struct place *place, int vfd, bool allow_path) {
    place_start(place);
    long result = place_relative(task, place, vfd, 0);
    if (result >= 0 && place->file->kind == FS_KIND_PATH && !allow_path) {
        place_end(task, place);
        return -EBADF;
    }
    return result;
}

void place_end(struct task *task, struct place *place) {
    fd_done(task, place->file);
    place->file = NULL;
}

/* ---- the table of names ---- */

static uint32_t cwd_changes(struct task *task) {
    return __atomic_load_n(&task_fds(task)->cwd_changes, __ATOMIC_RELAXED);
}

long place_look(struct task *task, const struct place *place, bool follow, struct names_found *found) {
    if (!names_table || place->kind != PLACE_PATH)
        return NAMES_ASK;
    /* Relaxed: a number means the same whenever it was learnt. */
    uint32_t *start = place->file ? &place->file->number : &task_fds(task)->cwd_number;
    return names_walk(names_table, __atomic_load_n(start, __ATOMIC_RELAXED), place->text, follow, found);
}

long place_dir(struct task *task, const struct place *place, int64_t *dir) {
    long handle = place->dir == -1 ? directory_handle(task, place->file) : 0;
    *dir = place->dir == -1 ? handle : place->dir;
    return handle < 0 ? handle : 0;
}

/* Should the working directory have changed meanwhile, by another thread, the number may be the old one's: then it is not kept,
 * or a change that is still under way forgets it when it is done. */
void place_learn(struct task *task, const struct place *place, const struct rpc *rpc, uint32_t changes) {
    struct fd_table *table = task_fds(task);
    uint32_t number = (uint32_t)rpc->message.payload.words[FS_W_NUMBER];
    if (!names_table || place->kind != PLACE_PATH || place->text[0] == '/')
        return;
    if (place->file) {
        __atomic_store_n(&place->file->number, number, __ATOMIC_RELAXED);
        return;
    }
    fd_lock(table);
    if (table->cwd_changes == changes)
        __atomic_store_n(&table->cwd_number, number, __ATOMIC_RELAXED);
    fd_unlock(table);
}

void cwd_forget(struct fd_table *table) {
    fd_lock(table);
    table->cwd_changes++;
    __atomic_store_n(&table->cwd_number, 0, __ATOMIC_RELAXED);
    fd_unlock(table);
}

/* An operation on a granted host file: the words stay, the type goes in front. */
static long host_file_request(struct task *task, struct file *file, struct rpc *rpc) {
    rpc->message.payload.words[0] = rpc->message.type;
    rpc->message.type = FS_HOSTFD_OP;
    rpc->send_fds = &file->host_fd;
    rpc->send_fd_count = 1;
    return fs_call(task, rpc);
}

long place_request(struct task *task, struct place *place, struct rpc *rpc, int at_word) {
    if (!rpc->data) {
        rpc->data = place->text;
        rpc->data_len = place->length + 1;
    }
    if (place->kind == PLACE_PATH) {
        uint32_t changes = cwd_changes(task);
        long result = place_dir(task, place, &rpc->message.payload.ints[0]);
        if (result < 0)
            return result;
        result = fs_call(task, rpc);
        place_learn(task, place, rpc, changes);
        return result;
    }
    if (place->kind != PLACE_FILE)
        return -EPERM;
    if (rpc->data == place->text) {
        rpc->data = "";
        rpc->data_len = 1;
    }
    if (at_word >= 0)
        rpc->message.payload.words[at_word] |= AT_EMPTY_PATH;
    if (place->file->host_fd >= 0)
        return host_file_request(task, place->file, rpc);
    long handle = directory_handle(task, place->file);
    if (handle < 0)
        return handle;
    rpc->message.payload.ints[0] = handle;
    return fs_call(task, rpc);
}

/* ---- the text of links to files ---- */

struct file_info {
    struct vos_stat stat;
    char path[VOS_PATH_MAX];
};

/* Canonical path as fs knows it. */
static long file_path_text(struct task *task, struct file *file, char *to, size_t cap) {
    struct rpc rpc;
    struct file_info info;
    fs_prepare(&rpc, FS_HOSTFD_INFO);
    if (file->host_fd >= 0) {
        rpc.message.payload.ints[0] = -1;
        rpc.send_fds = &file->host_fd;
        rpc.send_fd_count = 1;
    } else {
        long handle = directory_handle(task, file);
        if (handle < 0)
            return handle;
        rpc.message.payload.ints[0] = handle;
    }
    rpc.reply = &info;
    rpc.reply_cap = sizeof(info);
    long result = fs_call(task, &rpc);
    if (result < 0)
        return result;
    uint64_t length = rpc.message.payload.words[0];
    if (length == 0)
        return -ENOENT;
    if (rpc.reply_len > sizeof(info) || length >= VOS_PATH_MAX || rpc.reply_len < sizeof(info.stat) + length)
        return -EIO;
    if (length > cap)
        length = cap;
    __builtin_memcpy(to, info.path, length);
    return (long)length;
}

static size_t text_put(char *to, size_t cap, size_t at, const char *text) {
    for (; *text && at < cap; text++)
        to[at++] = *text;
    return at;
}

long file_link_text(struct task *task, struct file *file, char *to, size_t cap) {
    static const char *const anonymous[] = {
        [FILE_EVENT - FILE_EVENT] = "anon_inode:[eventfd]",   [FILE_TIMER - FILE_EVENT] = "anon_inode:[timerfd]",
        [FILE_SIGNAL - FILE_EVENT] = "anon_inode:[signalfd]", [FILE_EPOLL - FILE_EVENT] = "anon_inode:[eventpoll]",
        [FILE_MEMFD - FILE_EVENT] = "/memfd: (deleted)",      [FILE_FD_DIRECTORY - FILE_EVENT] = "/proc/self/fd",
    };
    if (file->kind >= FILE_EVENT)
        return (long)text_put(to, cap, 0, anonymous[file->kind - FILE_EVENT]);
    bool nameless = file->kind == FS_KIND_PIPE || file->kind == FS_KIND_SOCKET; /* a FIFO has a name, and is a handle */
    long result = nameless && file->host_fd >= 0 ? -ENOENT : file_path_text(task, file, to, cap);
    if (result >= 0 || !nameless)
        return result;
    struct vos_stat stat;
    result = file_stat(task, file, &stat);
    if (result < 0)
        return result;
    char number[21];
    number[decimal_put(number, stat.st_ino)] = 0;
    size_t length = text_put(to, cap, 0, file->kind == FS_KIND_PIPE ? "pipe:[" : "socket:[");
    length = text_put(to, cap, length, number);
    return (long)text_put(to, cap, length, "]");
}

long file_path(struct task *task, struct file_ref *file, char *path, size_t cap) {
    if (cap == 0)
        return -ENAMETOOLONG;
    long length = file_link_text(task, (struct file *)file, path, cap - 1);
    if (length >= 0)
        path[length] = 0;
    return length;
}
