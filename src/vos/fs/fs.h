/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs: the files of a DC, seen from one cell. Private header of this folder.
 *
 * An *op* is a request under way, from a guest of this cell or from the fs of another node. A handler runs it from
 * start to end without blocking; where it must wait (a lease to be revoked, another node, pm) it returns FS_PENDING and is run
 * again from its start later: so a handler changes nothing before its last wait.
 *
 * A *place* is what a path leads to. An *object* is something open, of this node or (a proxy) of another.
 * tree_dirs and other results of a walk stay valid until the handler returns; objects hold references.
 */
#ifndef FS_FS_H
#define FS_FS_H

#include "common/cleanup.h"
#include "common/log.h"
#include "common/table.h"
#include "vos/fs/hash.h"
#include "vos/host/module.h"
#include "vos/pm/info.h"
#include "vos/protocol.h"
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* Results of handlers beside 0, a positive number and -errno. */
#define FS_PENDING (-5001) /* kept by someone who will run or finish it */
#define FS_FORWARD (-5002) /* goes on at op->target */
#define FS_ELSEWHERE (-5004) /* lookup in /proc: known at op->proc_node only */
#define FS_LOCALLY (-5003) /* to the asking node only: leases come along, do it yourself */

#define FS_DEV_TREE 0x30ull /* st_dev of image and writable layer */
#define FS_DEV_PROC 0x31ull
#define FS_DEV_DEV 0x32ull
#define FS_DEV_SHM 0x33ull
#define FS_DEV_TOOLS 0x34ull
#define FS_DEV_VOLUME 0x40ull /* + index of the mount */
#define FS_INO_UPPER (1ull << 62)
#define FS_OVERFLOW_ID 65534u
#define FS_MAX_LINKS 40
#define FS_NAME_MAX 255

struct fs;
struct op;
struct object;
struct tree_dir;

/* ------------------------------------------------------------------ credentials (creds.c) */

/* Whose rights an op has. Immutable, counted. */
struct creds {
    unsigned refs;
    uint32_t uid, gid; /* fsuid, fsgid */
    uint32_t group_count;
    uint32_t groups[];
};
struct creds *creds_new(uint32_t uid, uint32_t gid, const uint32_t *groups, uint32_t group_count); /* NULL: no memory */
struct creds *creds_hold(struct creds *creds);
void creds_drop(struct creds *creds);
bool creds_in_group(const struct creds *creds, uint32_t gid);
/* May they do `want` (R_OK W_OK X_OK) to something with these attributes? 0 or -EACCES. */
int creds_check(const struct creds *creds, uint32_t mode, uint32_t uid, uint32_t gid, int want);
/* Take on these rights towards the host kernel (NULL: virtual root's). 0, or -EPERM when the host refuses. */
int creds_apply(const struct creds *creds);

/* ------------------------------------------------------------------ the tree (tree.c, union.c) */

/* A name in an upper directory. Kept for all names of a loaded directory; fs is the only writer of the layer. */
struct entry {
    struct hash_link link; /* fs->entries, key (directory, name) */
    struct entry *next, **prev;
    struct tree_dir *dir;
    uint32_t type;  /* S_IFMT bits; 0: no object in the upper layer */
    bool whiteout;  /* the image's object of that name is hidden */
    uint64_t ino;   /* as shown, 0: not known */
    char name[];
};

enum image_state { IMAGE_UNKNOWN, IMAGE_ABSENT, IMAGE_PRESENT };

/*
 * A directory of the tree. With an upper part, kept as long as the directory exists (or is open); without, a cache entry.
 * On a node that is not the primary `upper` is always false and says nothing.
 */
struct tree_dir {
    struct hash_link link; /* fs->dirs, key (parent, name) */
    struct tree_dir *parent; /* NULL: the root, or removed */
    struct tree_dir *lru_next, *lru_prev;
    char *name;
    unsigned refs;     /* objects and ops in waiting */
    unsigned children; /* cached directories below */
    unsigned leases;   /* not the primary: leases held on names at or below it */
    bool upper;        /* has an upper part */
    bool loaded;       /* entries hold all names of the upper part */
    bool opaque;       /* upper directory hides the image's */
    bool removed;      /* unlinked, still open */
    bool searchable;   /* image part: we, as the host sees us, may look names up in it */
    uint8_t image;     /* enum image_state: does an image directory show through */
    bool mounts;       /* something is mounted right below it */
    bool filled;       /* its names were put into the table of names in advance */
    int wd;            /* watched for changes by the host; 0: not */
    unsigned events;   /* so many since it is watched */
    int64_t busy_until;
    uint32_t number, numbers; /* in the table of names, 0: none; chain of all that it had */
    int image_fd, attr_fd, upper_fd; /* O_PATH or -1 (not open now); attr_fd may be equal to image_fd */
    uint64_t image_ino;
    uint32_t image_mode, image_uid, image_gid;
    uint32_t mode, uid, gid; /* as the DC sees it; only where upper or image is known */
    struct entry *entries;
    struct lease *lease_list; /* primary: leases given on names in it */
};

int tree_start(struct fs *fs);
void tree_stop(struct fs *fs);
/* Frees what the cache has too much of. Only between ops. */
void tree_trim(struct fs *fs);
struct tree_dir *tree_hold(struct tree_dir *dir);
void tree_drop(struct fs *fs, struct tree_dir *dir);
/* fd for lookups in the image part; -errno */
int tree_image_fd(struct fs *fs, struct tree_dir *dir);
int tree_attr_fd(struct fs *fs, struct tree_dir *dir);
int tree_upper_fd(struct fs *fs, struct tree_dir *dir);
/* Canonical path of a directory into `out` (VOS_PATH_MAX). Length, -ENOENT when removed, -ENAMETOOLONG. */
int tree_path(const struct tree_dir *dir, char *out);
/* Directory below, if it is known already. */
struct tree_dir *tree_cached(struct fs *fs, const struct tree_dir *dir, const char *name);
/* The same, made if need be. Attributes and parts are filled in by the caller. NULL: no memory. */
struct tree_dir *tree_add(struct fs *fs, struct tree_dir *parent, const char *name);
void tree_forget(struct fs *fs, struct tree_dir *dir); /* unlinked: takes it out of the tree */
void tree_move(struct fs *fs, struct tree_dir *dir, struct tree_dir *parent, const char *name);
bool tree_is_below(const struct tree_dir *dir, const struct tree_dir *above); /* or equal */
/* Index of the upper layer */
int tree_load(struct fs *fs, struct tree_dir *dir);
struct entry *entry_find(struct fs *fs, const struct tree_dir *dir, const char *name);
struct entry *entry_add(struct fs *fs, struct tree_dir *dir, const char *name); /* found or made, type 0 */
void entry_free(struct fs *fs, struct entry *entry);

/* ------------------------------------------------------------------ the table of names (names.c; vos/names.h) */

struct place;
int names_start(struct fs *fs);
void names_stop(struct fs *fs);
int names_fd(struct fs *fs); /* a new descriptor for a guest; -errno */
/* A lookup of name in dir ended with this; NULL: there is no such name. */
void names_found(struct fs *fs, struct tree_dir *dir, const char *name, const struct place *found);
void names_attributes(struct fs *fs, struct tree_dir *dir, const struct vos_stat *st); /* as place_stat says */
void names_listing(struct fs *fs, struct tree_dir *dir, const char *list, size_t length); /* as FS_GETDENTS gives it */
bool names_lists(struct fs *fs, struct tree_dir *dir); /* its listing may stand there */
bool names_has_listing(struct fs *fs, struct tree_dir *dir);
void names_fill(struct op *op, struct tree_dir *dir); /* the other names of a directory that was listed */
/* Number of a directory, given if need be; 0: it cannot stand in the table. */
uint32_t names_number(struct fs *fs, struct tree_dir *dir);
struct tree_dir *names_dir(struct fs *fs, uint64_t number); /* of a number that it has or had; NULL: none */
/* Changes. Called in the same run of a handler in which they are made: nobody sees them earlier. */
void names_changed(struct fs *fs, struct tree_dir *dir, const char *name); /* made, removed, of another kind, copied up */
void names_dir_changed(struct fs *fs, struct tree_dir *dir); /* attributes, layer or parent */
void names_dir_gone(struct fs *fs, struct tree_dir *dir); /* removed, or no longer remembered */
void names_lease_lost(struct fs *fs, struct tree_dir *dir, const char *name); /* the lease is not counted any more */
void names_below_gone(struct fs *fs, struct tree_dir *dir); /* it and all below: get new numbers, if any */
void names_forget_all(struct fs *fs);

/* watch.c: what the host changes in the image */
int watch_start(struct fs *fs);
void watch_stop(struct fs *fs);
bool watch_dir(struct fs *fs, struct tree_dir *dir); /* false: cannot, or not now */
void watch_end(struct fs *fs, struct tree_dir *dir);

/* ------------------------------------------------------------------ places */

enum layer { LAYER_TREE, LAYER_PROC, LAYER_DEV, LAYER_TOOLS, LAYER_SHM, LAYER_VOLUME };
enum where { WHERE_NONE, WHERE_IMAGE, WHERE_UPPER };

struct place {
    uint8_t layer;
    uint8_t where;        /* tree: which layer shows */
    uint32_t mode;        /* S_IFMT bits, 0: nothing there */
    struct tree_dir *dir; /* tree: the directory itself, or the one that `name` is in */
    uint64_t key;         /* proc, dev, tools, shm: which; volume: index of the mount */
    uint64_t arg;
    int fd;               /* volume: O_PATH fd of the directory itself or the one that `name` is in; the op's or the object's */
    char *path;           /* volume: path of that directory in the volume, "" the root; the op's or the object's */
    bool have_stat;
    struct vos_stat stat; /* of image objects, as found */
    char name[FS_NAME_MAX + 1]; /* tree, volume: name of what is not a directory */
};

/* Where a relative path begins. */
struct start {
    enum { START_ROOT, START_OBJECT, START_PATH } kind;
    struct object *object; /* START_OBJECT, of this node; or a proxy: then the op goes there */
    uint64_t remote_object; /* set when forwarded */
    char *path;            /* START_PATH: canonical path of a directory; op's */
};

enum walk_flags {
    WALK_FOLLOW = 1u, /* follow a symbolic link at the end */
    WALK_PARENT = 2u, /* the object need not exist; `parent` and `name` are wanted */
    WALK_EMPTY = 4u,  /* "" is the start itself */
    WALK_CREATE = 8u, /* for O_CREAT: a name with a slash after it is an error, whatever it is */
};
enum walk_last { LAST_NAME, LAST_DOT, LAST_DOTDOT, LAST_ROOT };

struct walk {
    struct place parent; /* directory that `name` is looked up in (LAST_NAME) */
    struct place found;  /* found.mode 0: does not exist (WALK_PARENT) */
    char name[FS_NAME_MAX + 1];
    uint8_t last;        /* enum walk_last */
    bool slash;          /* path ends in a slash */
};

/* Resolve op->path[index]. 0, -errno, FS_PENDING, FS_FORWARD or FS_LOCALLY. Fields of *out are valid until the handler returns. */
int walk(struct op *op, unsigned index, unsigned flags, struct walk *out);
/* Both paths of an op with two. -EXDEV when they belong to different nodes. */
int walk_both(struct op *op, unsigned flags0, struct walk *out0, unsigned flags1, struct walk *out1);
/* Make the op go on at `node` from the directory with that canonical path. Returns FS_FORWARD. */
int walk_forward(struct op *op, unsigned index, uint32_t node, const char *base, const char *rest);
/* Follow a canonical path of directories without checks of rights. As walk. */
int walk_canonical(struct op *op, const char *path, struct place *out);
int place_path(struct op *op, const struct place *place, char *out); /* canonical path; length or -errno */
/* May the caller do `want` to it? By mode and ids. */
int place_check(struct op *op, struct place *place, int want);
int place_stat(struct op *op, struct place *place, struct vos_stat *out);
int place_readlink(struct op *op, struct place *place, char *out, size_t cap); /* length (cut to cap) */
/* Something other than the tree is mounted there: that is put into *out, a volume without its fd. */
bool walk_mount_at(struct fs *fs, const struct tree_dir *dir, const char *name, struct place *out);
bool place_is_dir(const struct place *place);
void place_root(struct fs *fs, struct place *out);
void place_tree_dir(struct place *out, struct tree_dir *dir);
/* An object's own copy of a place, and its end. */
int place_copy(struct fs *fs, struct place *to, const struct place *from);
void place_free(struct fs *fs, struct place *place);

/* Host address of something that may be written to: tree (copied up first) or volume. */
struct host_at {
    int dir_fd; /* borrowed */
    const char *name; /* "." for the directory itself */
};
/* change: it is to be modified, so copy it up. no_data: its contents are about to be cut to nothing. -EROFS for other layers. */
int place_host(struct op *op, struct place *place, bool change, bool no_data, struct host_at *out);

/* union.c */
int union_lookup(struct op *op, struct tree_dir *dir, const char *name, struct place *out);
int union_copy_up_dir(struct op *op, struct tree_dir *dir);
int union_copy_up(struct op *op, struct place *place, bool no_data);
/* Call before a name appears in, or is hidden from, the upper part of dir: revokes leases. 0, FS_PENDING */
int union_prepare(struct op *op, struct tree_dir *dir, const char *name);
int union_whiteout(struct op *op, struct tree_dir *dir, const char *name); /* hide the image's object, if there is one */
int union_opaque(struct op *op, struct tree_dir *dir); /* hide all that the image has in a directory with an upper part */
int union_created(struct op *op, struct tree_dir *dir, const char *name, uint32_t type);
void union_removed(struct op *op, struct tree_dir *dir, const char *name);
int union_is_empty(struct op *op, struct tree_dir *dir); /* 1, 0, -errno */
int union_image_has(struct op *op, struct tree_dir *dir, const char *name); /* visible in the image: its S_IFMT, 0, -errno */
typedef int union_emit(void *context, const char *name, uint64_t ino, uint8_t type);
int union_list(struct op *op, struct tree_dir *dir, union_emit *emit, void *context);
bool union_reserved(const char *name); /* names that belong to the layer itself */
int union_start(struct fs *fs);
int union_work_name(struct fs *fs, char *out, size_t cap);
int union_discard_dir(struct fs *fs, int dir_fd, const char *name); /* a directory that holds markers only */

/* stat.c */
void stat_from_host(struct vos_stat *out, const struct statx *in);
int stat_host_at(int dir_fd, const char *name, int flags, struct vos_stat *out);
void stat_image(struct vos_stat *st); /* host's view -> DC's view */
void stat_upper(struct fs *fs, struct vos_stat *st);
/* ---- origin.c: numbers of files that were copied up. note: `work` (in fs->work_fd) is the copy of a file of the image ---- */
void origin_note(struct fs *fs, const char *work, const struct vos_stat *image);
/* The number to show for an object of the writable layer, whose host attributes these are. */
uint64_t origin_ino(struct fs *fs, const struct vos_stat *upper);
void origins_drop(struct fs *fs);
/* "" with a handle of this node that is no directory: the object itself. Or NULL. */
struct object *empty_path_object(struct op *op, uint64_t at_flags);

/* ------------------------------------------------------------------ processes and objects (handle.c) */

struct process {
    struct hash_link link; /* key pid */
    uint32_t pid;
    struct creds *creds;
    uint32_t umask;
    struct object *cwd;
    struct object **handles;
    uint32_t handle_cap;
    uint32_t free_hint; /* no free number below */
    bool moving; /* its handles were described for another node: its end here is not its end */
    uint64_t lock_nodes[VOS_MAX_NODES / 64 + 1]; /* where it may hold locks */
};

struct object_share { /* references held by another node's fs */
    struct object_share *next;
    uint32_t node;
    uint32_t count;
};

struct object {
    struct hash_link link; /* key (node, id) */
    uint64_t id;
    uint32_t node;  /* owner; not this node: a proxy */
    unsigned refs;  /* handles, working directories and ops of this node */
    struct object_share *shares; /* real objects only */
    uint8_t kind;   /* enum fs_kind */
    bool dead;      /* proxy: owner is gone */
    bool importing; /* proxy: our reference at the owner is on its way */
    uint32_t open_flags;   /* FS_O_* */
    uint32_t status_flags; /* O_ACCMODE, O_APPEND, O_NONBLOCK */
    int fd;
    uint32_t watched; /* epoll events asked for */
    struct op *waiters; /* in order of arrival */
    struct place place; /* FS_KIND_DIR, FS_KIND_PATH */
    struct object *delegate; /* FS_KIND_DIR: the listing is made by this object of the primary */
    char *path;         /* proxy of a directory: its canonical path, if that never changes */
    uint32_t tty;       /* FS_KIND_TTY: number, see tty/tty.h */
    struct vos_stat stat; /* FS_O_IMMUTABLE, tty */
    char *list;         /* FS_KIND_DIR: struct linux_dirent64[], made at the first read */
    size_t list_len, list_cap;
    size_t position;
};

struct process *process_find(struct fs *fs, uint32_t pid);
struct process *process_get(struct fs *fs, uint32_t pid); /* found or made: root's rights, working directory / */
void process_end(struct fs *fs, struct process *process);
int process_fork(struct fs *fs, uint32_t parent, uint32_t child);
/* Number for a new handle; takes over one reference (dropped on failure). */
int handle_add(struct fs *fs, struct process *process, struct object *object);
struct object *handle_get(struct process *process, uint64_t number); /* borrowed; NULL: no such */
int handle_close(struct fs *fs, struct process *process, uint64_t number);

struct object *object_new(struct fs *fs, uint8_t kind); /* real, one reference */
struct object *object_host(struct fs *fs, uint8_t kind, int fd, uint32_t status_flags); /* takes over fd, also on failure */
struct object *object_proxy(struct fs *fs, uint32_t node, uint64_t id, uint8_t kind, uint32_t open_flags,
                            uint32_t status_flags); /* found or made; one reference more; *made: see importing */
struct object *object_find(struct fs *fs, uint32_t node, uint64_t id);
struct object *object_hold(struct object *object);
void object_drop(struct fs *fs, struct object *object);
int object_share_add(struct fs *fs, struct object *object, uint32_t node);
void object_share_drop(struct fs *fs, struct object *object, uint32_t node, uint32_t count);
void object_node_lost(struct fs *fs, uint32_t node);
/* Directory object for a place. NULL: no memory. */
struct object *object_place(struct fs *fs, uint8_t kind, const struct place *place, uint32_t status_flags);

/* ------------------------------------------------------------------ ops (main.c) */

struct proc_info;

struct op {
    struct fs *fs;
    struct op *next, **prev; /* fs->ops: all under way */
    struct op *wait_next;    /* object's waiters, lease's waiters, lock's waiters */
    struct dvk_request *req; /* NULL: made by fs itself; then `done` */
    void (*done)(struct op *op, int status);
    void *context;
    uint32_t type;
    uint32_t pid;
    uint32_t node;  /* of the calling process */
    bool remote;    /* asked by another node's fs */
    void (*cancel)(struct op *op); /* FS_PENDING: ends the wait early and finishes the op; NULL: cannot be ended */
    bool read_only; /* of the kind that leases may answer */
    bool no_lease;  /* leases did not help: do it */
    bool cancelled;
    uint32_t target; /* FS_FORWARD: node, and which path */
    unsigned forward_index;
    unsigned focus, swaps; /* two paths: which one is resolved first, and how often that changed */
    uint32_t proc_node; /* FS_ELSEWHERE */
    uint32_t links, hops;
    uint64_t call;   /* forwarded: number for dvk_cancel; 0: none */
    struct object *object; /* forwarded or waiting on: a reference */
    struct creds *creds;
    struct start start[2];
    uint64_t words[8];
    const void *data; /* bytes after the paths: in the channel */
    uint32_t data_len;
    unsigned path_count;
    /* answer */
    uint64_t out[20];
    uint8_t *out_data;
    uint32_t out_cap, out_len;
    int out_fd;       /* granted: the op's */
    struct object *out_object; /* opened: a reference */
    /* what the op holds until it ends */
    uint64_t wait_key; /* for whoever the op waits at */
    int wait_fd; /* the op's, -1: none */
    int keep_fds[24], *keep_more;
    unsigned keep_count;
    void *keep_memory; /* chain of blocks */
    /* leases met on the way (primary, for another node) */
    unsigned lease_count;
    bool lease_bad;   /* some part of the way cannot be leased */
    unsigned revokes; /* answers awaited */
    struct proc_info *info; /* answer of pm, see proc.c */
    uint64_t timer;
    uint64_t reply_words[20]; /* of a call that the op waited for, see its user */
    bool have_reply;
    int reply_status;
    /* from here on not cleared for a new op */
    uint8_t local_reply[256]; /* where there is no request */
    struct { struct tree_dir *dir; char name[FS_NAME_MAX + 1]; } lease[8];
    char path[2][VOS_PATH_MAX];
    char rest[2 * VOS_PATH_MAX]; /* of the walk */
};

typedef int op_handler(struct op *op);
enum op_flags {
    OP_PATH = 1u,   /* w0 directory, data "path\0..." */
    OP_PATH2 = 2u,  /* w0, w1 directories, data "old\0new\0" */
    OP_NAME2 = 4u,  /* data "path\0string\0...": second string is no path */
    OP_HANDLE = 8u, /* w0 handle: forwarded to the object's owner */
    OP_READ = 16u,  /* changes nothing */
};
struct op_row {
    uint32_t type;
    op_handler *handler;
    uint32_t flags;
    const char *name;
};
const struct op_row *table_find(uint32_t type);

struct fs {
    struct vos *vos;
    struct names *names;
    struct watches *watches;
    unsigned watch_max;
    bool primary;
    struct op *ops, *free_ops;
    unsigned free_count;
    struct hash processes, objects;
    uint64_t next_object;
    /* tree */
    struct hash dirs, entries;
    struct tree_dir *root;
    struct tree_dir lru; /* list head; most recently used first */
    unsigned open_dirs, open_dirs_max, cached_dirs;
    int work_fd;         /* primary: directory for what is not finished */
    uint64_t work_count;
    struct table origins; /* struct origin by the copy's number */
    uint64_t upper_dev, image_dev;
    uint64_t upper_mount, image_mount;
    char upper_path[VOS_PATH_MAX], image_path[VOS_PATH_MAX]; /* as /proc/self/fd shows them */
    /* leases */
    struct hash leases; /* primary: given; else: held */
    uint64_t lease_sequence;  /* primary: of the last grant or revocation; else: highest revocation seen */
    struct hash locks;
    struct op *fifo_waiters; /* opens of FIFOs that wait for the other end */
    struct shm *shm;
    struct proc_state *proc;
    uint64_t boot_ns;
};

int fs_create(struct vos *vos, struct fs **out);
void fs_destroy(struct fs *fs);
struct fs *fs_of(struct vos *vos);

struct op *op_new(struct fs *fs, struct dvk_request *req);
void op_run(struct op *op);                /* (again) from the start */
void op_finish(struct op *op, int status); /* answer and free */
int op_keep_fd(struct op *op, int fd);     /* closed when the op ends; returns fd, or -EMFILE (closed) */
void *op_alloc(struct op *op, size_t len); /* freed when the op ends */
void op_reset(struct op *op);              /* let go what a handler's run gathered */
struct process *op_process(struct op *op); /* local ops: the caller; NULL when it is gone */
/* Caller's rights towards the host, and back to ours. */
int op_as_caller(struct op *op);
void op_as_root(struct op *op);
/* Put data into the answer. 0 or -EOVERFLOW. */
int op_put(struct op *op, const void *data, size_t len);

/* ------------------------------------------------------------------ handlers, one file a topic */
int do_open(struct op *op), do_opendir(struct op *op);
int open_grant_fd(struct op *op, int fd, uint8_t kind, uint32_t open_flags, uint32_t status_flags, const struct vos_stat *st);
int open_grant_object(struct op *op, struct object *object, const struct vos_stat *st);
int do_stat(struct op *op), do_access(struct op *op), do_readlink(struct op *op), do_statfs(struct op *op);
int do_fstat(struct op *op);
int do_mkdir(struct op *op), do_unlink(struct op *op), do_rename(struct op *op), do_link(struct op *op);
int do_symlink(struct op *op), do_mknod(struct op *op);
int do_chmod(struct op *op), do_chown(struct op *op), do_utimens(struct op *op), do_truncate(struct op *op), do_xattr(struct op *op);
int do_chdir(struct op *op), do_getcwd(struct op *op);
int do_getdents(struct op *op), do_listdir(struct op *op);
int do_close(struct op *op), do_read(struct op *op), do_write(struct op *op), do_lseek(struct op *op), do_ftruncate(struct op *op);
int do_fsync(struct op *op), do_fallocate(struct op *op), do_ioctl(struct op *op), do_poll(struct op *op), do_setfl(struct op *op);
int do_lock(struct op *op);
int do_poll_set(struct op *op);
int do_socket(struct op *op);
int do_export(struct op *op), do_regrant(struct op *op), do_hostfd_info(struct op *op), do_hostfd_op(struct op *op);

/* socket.c */
int socket_identify(int fd, uint32_t *open_flags); /* -EOPNOTSUPP: not of the kind that guests may have */
ssize_t socket_read(struct op *op, size_t length); /* as read(2) and write(2); -1 and EAGAIN in place of waiting */
ssize_t socket_write(struct op *op);
bool socket_never_blocks(const struct object *object); /* has O_NONBLOCK, now */
int socket_set_flags(struct object *object, uint32_t flags);

/* io.c */
void io_wait(struct op *op, struct object *object); /* adds it to the object's waiters and watches the fd */
void io_close(struct fs *fs, struct object *object); /* object ends: watch off, fd closed */
int fifo_open(struct op *op, const struct host_at *at, uint32_t flags, const struct vos_stat *st);
int dir_seek(struct op *op, struct object *object, int64_t offset, int whence);

/* tty.c: hand the op on to the server of its object's tty */
int tty_forward(struct op *op);
int tty_open(struct op *op, uint32_t number, uint32_t flags);
void tty_close(struct fs *fs, uint32_t number);
void tty_adopt(struct fs *fs, struct dvk_request *req);
/* A reference of our own to a tty that comes with a process. The caller owns the result. */
struct object *tty_object(struct fs *fs, uint32_t number, uint32_t status_flags, void (*done)(void *context, int status),
                          void *context);

/* attr.c, on a host fd: for granted files */
int attr_host_op(struct op *op, int fd, uint32_t type);

/* hostfd.c: which file of the DC is behind a host fd */
struct host_identity {
    uint8_t layer;
    uint8_t where;
    struct vos_stat stat;
    char path[VOS_PATH_MAX]; /* "" when it has none */
};
int hostfd_identify(struct fs *fs, int fd, struct host_identity *out);
int hostfd_start(struct fs *fs);
/* Change the attributes (FS_CHMOD, FS_CHOWN, FS_UTIMENS, FS_XATTR) of the file behind fd: as the handlers, which it may call. */
int hostfd_change(struct op *op, int fd, uint32_t type);
int hostfd_reopen(struct fs *fs, int fd, int flags); /* own description of the same file */

/* ------------------------------------------------------------------ synthetic layers */
int proc_lookup(struct op *op, const struct place *dir, const char *name, struct place *out);
int proc_stat(struct op *op, struct place *place, struct vos_stat *out);
int proc_readlink(struct op *op, struct place *place, char *out, size_t cap);
int proc_open(struct op *op, struct place *place, uint32_t flags);
int proc_list(struct op *op, const struct place *dir, union_emit *emit, void *context);
void proc_parent(const struct place *dir, struct place *out);
int proc_path(const struct place *place, char *out);
/* What pm knows of a process, or all pids of the DC. 0, -errno, FS_PENDING: the handler is run again with the answer. */
struct proc_info {
    struct proc_info *next;
    uint32_t pid; /* 0: the listing */
    int status;
    struct pm_process_info process;
    char *cmdline;
    uint32_t cmdline_len;
    uint32_t *pids;
    uint32_t pid_count;
    uint64_t cursor;
};
int proc_need(struct op *op, uint32_t pid, const struct pm_process_info **out);
int proc_need_full(struct op *op, uint32_t pid, struct proc_info **out);
int proc_need_pids(struct op *op, const uint32_t **pids, uint32_t *count);
void proc_info_free(struct proc_info *info);

int dev_lookup(struct op *op, const struct place *dir, const char *name, struct place *out);
int dev_stat(struct op *op, struct place *place, struct vos_stat *out);
int dev_readlink(struct op *op, struct place *place, char *out, size_t cap);
int dev_open(struct op *op, struct place *place, uint32_t flags);
int dev_list(struct op *op, const struct place *dir, union_emit *emit, void *context);
void dev_parent(const struct place *dir, struct place *out);
void dev_root(struct place *out);
int dev_path(const struct place *place, char *out);
/* A fresh fd of a harmless device by its number; -ENXIO for others. */
int dev_reopen(struct fs *fs, uint64_t rdev, int flags);

int tools_lookup(struct op *op, const struct place *dir, const char *name, struct place *out);
int tools_stat(struct op *op, struct place *place, struct vos_stat *out);
int tools_open(struct op *op, struct place *place, uint32_t flags);
int tools_list(struct op *op, const struct place *dir, union_emit *emit, void *context);
void tools_parent(const struct place *dir, struct place *out);
int tools_path(const struct place *place, char *out);

/* shm.c */
void shm_place(struct place *out);
int shm_lookup(struct op *op, const struct place *dir, const char *name, struct place *out);
int shm_stat(struct op *op, struct place *place, struct vos_stat *out);
int shm_fd(struct op *op, const struct place *place);
int shm_open_file(struct op *op, struct place *place, uint32_t flags);
int shm_create(struct op *op, const char *name, uint32_t flags, uint32_t mode);
int shm_remove(struct op *op, const char *name);
int shm_add_name(struct op *op, const char *old, const char *new);
int shm_rename(struct op *op, const char *old, const char *new, unsigned flags);
int shm_list(struct op *op, const struct place *dir, union_emit *emit, void *context);
void shm_node_lost(struct fs *fs, uint32_t node);
void shm_stop(struct fs *fs);
int shm_drop(struct fs *fs, uint64_t id);

int volume_lookup(struct op *op, const struct place *dir, const char *name, struct place *out);
int volume_root(struct op *op, unsigned index, struct place *out);
int volume_parent(struct op *op, const struct place *dir, struct place *out);
int volume_stat(struct op *op, struct place *place, struct vos_stat *out);
int volume_list(struct op *op, const struct place *dir, union_emit *emit, void *context);
int volume_path(struct op *op, const struct place *place, char *out);

/* A sealed read-only memfd with these bytes; -errno */
int memory_file(const char *name, const void *data, size_t len);

/* ------------------------------------------------------------------ between nodes (remote.c, lease.c) */
void remote_forward_path(struct op *op, uint32_t node);
void remote_forward_object(struct op *op, struct object *object);
void remote_request(struct fs *fs, struct dvk_request *req, uint32_t node);
void remote_drop(struct fs *fs, uint32_t node, uint64_t id, uint32_t count);
void remote_addref(struct fs *fs, struct object *proxy, void (*done)(void *context, int status), void *context);
void remote_reply(struct op *op, int status); /* answer of an op asked by another node */
int remote_errno(int dvk_status); /* errno for a failed call */

struct lease {
    struct hash_link link;   /* key (dir, name) */
    struct lease *next, **prev; /* dir->lease_list (primary) */
    struct tree_dir *dir;    /* a reference */
    uint64_t nodes[(VOS_MAX_NODES + 64) / 64]; /* primary: holders */
    struct op *waiters;      /* primary: ops that wait until it is gone */
    unsigned awaited;        /* primary: answers to come; while it is not 0 no one gets it anew */
    char name[];
};
/* not the primary */
bool lease_covers(struct fs *fs, struct tree_dir *dir, const char *name); /* name NULL: the directory itself is pure */
bool lease_below(struct fs *fs, struct tree_dir *dir, const char *name);
int lease_install(struct fs *fs, const char *path, uint64_t sequence);
void lease_revoked(struct fs *fs, const char *path, uint64_t sequence);
void lease_drop_all(struct fs *fs);
/* primary */
void lease_note(struct op *op, struct tree_dir *dir, const char *name); /* walk leaves the upper layer here */
bool lease_offer(struct op *op); /* all noted ones can be given */
int lease_grant(struct op *op, struct tree_dir *dir, const char *name); /* by the answer of op; path is written by remote.c */
int lease_revoke(struct op *op, struct tree_dir *dir, const char *name); /* 0, FS_PENDING */
int lease_revoke_below(struct op *op, struct tree_dir *dir);
void lease_node_lost(struct fs *fs, uint32_t node);
void lease_forget_op(struct op *op);

/* transfer.c */
void transfer_exports(struct fs *fs, struct dvk_request *req, uint32_t pid);
void transfer_imports(struct fs *fs, struct dvk_request *req, uint32_t pid);
void transfer_adopt(struct fs *fs, struct dvk_request *req);

/* lock.c */
void lock_process_gone(struct fs *fs, uint32_t pid);
void lock_node_lost(struct fs *fs, uint32_t node);
void lock_object_gone(struct fs *fs, uint64_t object);
void lock_moved(struct fs *fs, uint32_t pid, uint32_t node);
void lock_stop(struct fs *fs);
/* Tell the nodes where the process may hold locks: it is gone (false) or runs on this node now. */
void remote_locks(struct fs *fs, struct process *process, bool here);

#endif
