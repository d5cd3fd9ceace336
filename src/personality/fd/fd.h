/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fd/: the file side of the personality. A process's descriptors are numbers of its own (vfds) that name files; a file
 * is an open file description as this process sees it: a host fd that a server granted or the host made (pipes,
 * socket pairs, eventfds), or a handle at fs that is used by messages.
 *
 * Host fds and vfds have nothing to do with each other; a guest never sees a host fd's number.
 *
 * Locks: one, fd_table.lock. It guards the entries, the list of files, and the interests of epoll files. Under it only
 * the heap's own lock is taken, host calls that do not block are made (pipe2, close, dup), and no message is sent.
 * While a process has a single thread (fd_table.threaded is false) neither the lock nor counts of calls under way are
 * used: nothing can come between.
 *
 * fork: a child inherits the host fds of files that another thread was just closing or opening. Files stay on
 * fd_table.files until their host fd is closed, in the same critical section, so the child finds those without an entry
 * and closes them; opens under way are counted in fd_table.opening, and only if there were any does the child look for
 * host fds that no file owns.
 */
#ifndef FD_FD_H
#define FD_FD_H

#include "personality/fd/names.h"
#include "personality/personality.h"

/* Continues enum fs_kind: what only the personality knows. */
enum file_kind {
    FILE_EVENT = 16, /* eventfd */
    FILE_TIMER,
    FILE_SIGNAL,
    FILE_EPOLL,
    FILE_MEMFD,
    FILE_FD_DIRECTORY /* /proc/self/fd: neither host fd nor handle */
};

/* A handle in an epoll set, kept here since the host's epoll knows host fds only. */
struct interest {
    struct interest *next;
    struct file *file; /* no reference: removed when the file goes */
    int vfd;
    uint32_t events;
    uint64_t data;
    bool disabled; /* EPOLLONESHOT has fired */
};

struct file {
    struct file *next, **link;  /* fd_table.files */
    uint32_t refs;              /* entries + calls under way; atomic when threaded */
    uint32_t kind;              /* enum fs_kind, enum file_kind */
    int host_fd;                /* or -1 */
    int64_t handle;             /* or -1; of a directory that was opened by its number, until it is needed: directory_handle */
    int64_t exported;           /* handle made for an exec elsewhere that has not happened; or -1 */
    uint32_t status_flags;      /* O_ACCMODE, O_APPEND, O_NONBLOCK, O_PATH; of host files only O_ACCMODE is kept true */
    uint32_t open_flags;        /* FS_O_* */
    bool stat_known;            /* stat was given; true for ever if FS_O_IMMUTABLE, else st_dev and st_ino only */
    bool directory_end;         /* the server said that nothing follows */
    uint64_t position;          /* FILE_FD_DIRECTORY: next entry; directory without a handle: offset in its listing */
    uint32_t number;            /* of a directory in the table of names, 0: not known. Atomic */
    char *list;                 /* directory without a handle: its whole listing, list_length bytes */
    size_t list_length;
    struct interest *interests; /* FILE_EPOLL */
    struct file *copy;          /* while the table is copied */
    struct vos_stat stat;
};

struct fd_entry {
    struct file *file; /* NULL: free, or reserved while a file is being opened (then its bit is set) */
    bool close_on_exec;
};

#define FD_WORDS (FD_LIMIT_MAX / 64)
#define FD_INLINE 256u

struct fd_table {
    struct lock lock;
    bool threaded;
    bool posix_locked;     /* has made a POSIX lock on a granted file: closes must drop it */
    bool poll_set_missing; /* fs does not know FS_POLL_SET */
    bool umask_told;       /* pm knows the umask */
    uint32_t cwd_number;   /* of the working directory in the table of names, 0: not known. Atomic */
    uint32_t cwd_changes;  /* how often that was forgotten */
    uint32_t opening;      /* opens whose host fd may have come without a file yet */
    uint32_t umask;
    uint32_t limit;          /* RLIMIT_NOFILE */
    uint32_t size;           /* of entry[] */
    uint32_t hint;           /* no free descriptor lies in words below this */
    uint32_t interest_count; /* over all epoll files */
    struct process *process;
    struct file *files;
    struct fd_entry *entry; /* `first`, or pages of its own */
    uint64_t used[FD_WORDS];
    struct fd_entry first[FD_INLINE];
};

static inline struct fd_table *process_fds(const struct process *process) {
    return ((const struct process_head *)process)->fd_table;
}
static inline struct fd_table *task_fds(const struct task *task) {
    return process_fds(task->process);
}

/* ---- table.c: descriptors ---- */

void fd_lock(struct fd_table *table);
void fd_unlock(struct fd_table *table);
/* The file of a descriptor for the duration of one call, or NULL (-EBADF); fd_done ends it. */
struct file *fd_use(struct task *task, int vfd);
void fd_done(struct task *task, struct file *file);
/* Take the lowest free descriptor >= least. It names nothing until fd_install or fd_unreserve. -EMFILE, -ENOMEM. */
long fd_reserve(struct fd_table *table, uint32_t least);
void fd_unreserve(struct fd_table *table, int vfd);
/* Give the reserved descriptor a file; consumes the caller's reference. */
void fd_install(struct fd_table *table, int vfd, struct file *file, bool close_on_exec);
/* Reserve and install in one; on error the file is released. Returns the descriptor or negative errno. */
long fd_add(struct task *task, struct file *file, bool close_on_exec);
/* The same for the two ends of something, whose numbers are written to the guest's int[2]. Either may be NULL: -ENOMEM. */
long fd_give_pair(struct task *task, struct file *first, struct file *second, bool close_on_exec, uint64_t to);
/* Put a file at exactly vfd, closing what was there; consumes the reference. For restore and dup2. */
long fd_put_at(struct task *task, int vfd, struct file *file, bool close_on_exec);
long fd_close(struct task *task, int vfd);
/* First descriptor in use >= least, or -1. Caller holds the lock. */
int fd_next_used(const struct fd_table *table, uint32_t least);

/* ---- file.c ---- */

/* New files, with one reference, on the table's list. NULL: no memory (host_fd is then closed, handle kept by the
 * caller). */
struct file *file_new(struct fd_table *table, uint32_t kind, int host_fd, int64_t handle, uint32_t status_flags);
/* An open that may bring a host fd begins; it ends inside file_new_opened, or by file_opening_end when none came. */
void file_opening_begin(struct fd_table *table);
void file_opening_end(struct fd_table *table);
struct file *file_new_opened(struct fd_table *table, uint32_t kind, int host_fd, int64_t handle, uint32_t status_flags);
void file_retain(struct file *file);
/* Drop a reference; the last one closes. May send a message. */
void file_release(struct task *task, struct file *file);
void handle_close(struct task *task, int64_t handle);
/* Memory of the file only (its process is gone). */
void file_forget(struct fd_table *table, struct file *file);

static inline bool file_readable(const struct file *file) {
    return (file->status_flags & 3) != 1;
}
static inline bool file_writable(const struct file *file) {
    return (file->status_flags & 3) != 0;
}
static inline bool file_is_stream(const struct file *file) {
    return file->kind == FS_KIND_PIPE || file->kind == FS_KIND_TTY || file->kind == FS_KIND_SOCKET;
}

/* ---- message.c: requests to fs ---- */

/* Fill in an empty request. */
void fs_prepare(struct rpc *rpc, uint32_t type);
/* One that a signal does not end. */
long fs_call(struct task *task, struct rpc *rpc);
/* One that may block: -EINTR becomes SYS_INTERRUPTED. */
long fs_call_blocking(struct task *task, struct rpc *rpc);
/* What a terminal's server wants to know of the calling thread; only for terminals. */
void fs_tell_caller(struct task *task, const struct file *file, struct rpc *rpc);
/* A call on the file's host fd; blocking ones end with SYS_INTERRUPTED. */
long file_host_call(struct task *task, struct file *file, long number, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                    uint64_t f);
static inline long fs_interrupted(long result) {
    return result == -4 /* EINTR */ ? SYS_INTERRUPTED : result;
}
/* Nanoseconds of the monotonic clock. */
int64_t clock_now(void);

/* ---- path.c: what a path argument names ---- */

enum place_flags {
    PLACE_FOLLOW = 1u, /* the last component is followed if it is a link */
    PLACE_EMPTY = 2u,  /* AT_EMPTY_PATH: "" names the descriptor itself */
    PLACE_DIRECT = 4u  /* links of /proc/self/fd and the like are not looked at here */
};
enum place_kind {
    PLACE_PATH,         /* dir + text, for fs */
    PLACE_FILE,         /* `file` itself */
    PLACE_FD_LINK,      /* the link /proc/self/fd/N itself (not followed); `file` is what it points to */
    PLACE_FD_DIRECTORY, /* /proc/self/fd */
    PLACE_EXE_LINK      /* /proc/self/exe itself (not followed) */
};
/* A path argument, resolved as far as only the personality can. Holds a use of `file`. */
struct place {
    enum place_kind kind;
    struct file *file; /* also the directory that dir stands for; or NULL */
    int vfd;           /* of PLACE_FD_LINK and of PLACE_FILE */
    int64_t dir;       /* fs handle or VOS_CWD; -1: ask place_dir */
    const char *text;  /* in buffer */
    size_t length;     /* without NUL */
    char buffer[VOS_PATH_MAX + 8]; /* names_walk may look a little past the end */
};
/* Copies the path and looks at it. 0 or negative errno (then there is nothing to end). */
long place_resolve(struct task *task, struct place *place, int dirfd, uint64_t path, unsigned flags);
/* The same for a path in personality memory, relative to the working directory. */
long place_resolve_text(struct task *task, struct place *place, const char *path, unsigned flags);
/* What a descriptor names. O_PATH descriptors give -EBADF unless they may be used. */
long place_of_fd(struct task *task, struct place *place, int vfd, bool allow_path);
void place_end(struct task *task, struct place *place);
/*
 * Send an operation of the FS_CHMOD kind about the place. rpc is filled in but for w0 and data (unless rpc->data is
 * set, which must then begin with the place's path). at_word: which word holds the AT_* flags, or -1. Handles become
 * AT_EMPTY_PATH, granted files FS_HOSTFD_OP. Links of /proc/self/fd themselves give -EPERM.
 */
long place_request(struct task *task, struct place *place, struct rpc *rpc, int at_word);
/* What the table of names says about a PLACE_PATH: as names_walk; NAMES_ASK for all else. */
long place_look(struct task *task, const struct place *place, bool follow, struct names_found *found);
/* The directory that a PLACE_PATH begins in, for a request to fs: handle or VOS_CWD; or negative errno. */
long place_dir(struct task *task, const struct place *place, int64_t *dir);
/* A request about the place was answered: note what the reply says of its directory. changes: cwd_changes before the request. */
void place_learn(struct task *task, const struct place *place, const struct rpc *rpc, uint32_t changes);
/* The working directory is about to change, or has changed. */
void cwd_forget(struct fd_table *table);
/* What readlink shows for a file: text into to (no NUL); length or negative errno. */
long file_link_text(struct task *task, struct file *file, char *to, size_t cap);

/* ---- read_write.c ---- */

/* Read or write by message; memory may be the guest's or ours. offset -1: the file's position. Raises SIGPIPE. */
long handle_read(struct task *task, struct file *file, void *to, size_t len, int64_t offset, bool no_wait);
long handle_write(struct task *task, struct file *file, const void *from, size_t len, int64_t offset, bool no_wait,
                  bool append);
/* Either kind of file; personality memory. */
long file_read(struct task *task, struct file *file, void *to, size_t len, int64_t offset);
long file_write(struct task *task, struct file *file, const void *from, size_t len, int64_t offset);

/* ---- stat.c, open.c, event.c, directory.c ---- */

long file_stat(struct task *task, struct file *file, struct vos_stat *stat);
/* Open a path at fs into a new file with one reference. for_exec: to run it; gets what fs says of it. NULL: not to run it. */
long file_open(struct task *task, struct place *place, uint32_t flags, uint32_t mode, struct opened_info *for_exec,
               struct file **out);
long signal_file_read(struct task *task, struct file *file, uint64_t to, size_t len);
long fd_directory_read(struct task *task, struct file *file, uint64_t to, size_t len);
void fd_directory_stat(struct vos_stat *stat);
/* The handle of a directory, asked for when there is none yet. Negative errno. */
long directory_handle(struct task *task, struct file *file);
/* Have fs put the listing and the attributes of a directory that has only a number into the table of names. */
bool directory_publish(struct task *task, struct file *file);
/* lseek of a directory without a handle. */
long directory_seek(struct task *task, struct file *file, int64_t offset, int whence);
/* Remove a file from all epoll sets. Caller holds the lock. */
void epoll_forget(struct fd_table *table, struct file *file);

/* ---- poll.c ---- */

struct poll_item {
    struct file *file; /* NULL: revents is set already and stays */
    uint32_t events;
    uint32_t revents; /* out */
};
/* Wait until one item is ready, for at most timeout_ns (-1: for ever). Number of items with revents, or -EINTR,
 * -ENOMEM. */
long poll_items(struct task *task, struct poll_item *items, unsigned count, int64_t timeout_ns);

/* ---- small things ---- */

static inline size_t text_length(const char *text) {
    size_t n = 0;
    while (text[n])
        n++;
    return n;
}
/* Rest of text behind prefix, or NULL. */
static inline const char *text_after(const char *text, const char *prefix) {
    while (*prefix)
        if (*text++ != *prefix++)
            return NULL;
    return text;
}
/* Decimal number as text (no NUL) at `to`, which has room for 20; its length. */
size_t decimal_put(char *to, uint64_t number);
/* A number at *text (no sign, no leading zero but "0"), which is moved behind it; -1 if there is none or it is above
 * max. */
int64_t decimal_parse(const char **text, int64_t max);

#endif
