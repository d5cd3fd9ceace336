/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VOS's protocol: what guests ask of the servers of their cell, and servers of each other. One number
 * space of message types: server << 8 | operation. Freestanding: the personality includes it.
 *
 * A guest talks only to the servers of its own cell, over its one channel; a server that does not own the
 * object hands the request on to the server that does (VOS_REMOTE wraps nothing: the receiving server
 * knows the requesting server from the source endpoint, and takes credentials from its words).
 *
 * Arguments are in payload.words / payload.ints in the order written here: "w0 name". Out-of-line data
 * is "data". Results: status is 0 or positive, or a negative errno of Linux; DVK_E* errors are turned to
 * errnos by the personality (node unreachable, dead: EIO; interrupted: EINTR).
 * Paths are NUL-terminated, at most VOS_PATH_MAX bytes with the NUL, and never the empty string unless said.
 */
#ifndef VOS_PROTOCOL_H
#define VOS_PROTOCOL_H

#include <dvk/message.h>
#include <stdint.h>

#define VOS_PATH_MAX 4096u
#define VOS_TYPE(service, op) ((uint32_t)(service) << 8 | (op))
#define VOS_SERVICE(type) ((type) >> 8)

/* Directory argument of path operations: a directory handle of fs, or the caller's working directory. */
#define VOS_CWD (-100)

/* ------------------------------------------------------------------ pm */
enum pm_type {
    /* --- lifetime, by guests --- */
    PM_HELLO = VOS_TYPE(DVK_SERVICE_PM, 1), /* first message of a new process. reply: w0 pid w1 ppid w2 pgid w3 sid
                                  w4 uid|euid<<32 w5 suid|gid<<32 w6 egid|sgid<<32 w7 flags (PM_F_*) w8 umask,
                                  w9 length of the image that PM_IMAGE gives (0: the zygote) w10 this node's id;
                                  data: groups u32[]. The zygote says hello too: it needs w7 and w10 */
    PM_IMAGE = VOS_TYPE(DVK_SERVICE_PM, 2), /* w0 offset. reply: data: the next bytes of the exec image (vos/image.h);
                                  with each, the next of the image's host fds, in order, at most
                                  DVK_MESSAGE_FDS; ask on (with w0 the length) while fewer than the image's host_fds have come */
    PM_STARTED = VOS_TYPE(DVK_SERVICE_PM, 3), /* w0 0: the new program is about to run; else the errno that loading met (process then exits).
                                  data: "comm\0cmdline (NUL-separated)" for ps */
    PM_ZYGOTE_WAIT = VOS_TYPE(DVK_SERVICE_PM, 4), /* by the zygote: w0 result of the last spawn (pid or -errno). reply (when one is to
                                  be spawned): w0 pid; fds: [channel memfd, socket] of the child */
    PM_FORK = VOS_TYPE(DVK_SERVICE_PM, 5),  /* w0 clone flags. reply: w0 the child's pid; fds: [channel memfd, socket]. The child's record
                                  exists from now on; the parent then clones with set_tid. fs copies its references */
    PM_FORK_DONE = VOS_TYPE(DVK_SERVICE_PM, 6), /* w0 child's pid, w1 0 or the errno with which clone failed (record is dropped) */
    PM_TIDS = VOS_TYPE(DVK_SERVICE_PM, 7),  /* w0 how many (<= 16). reply: w0 count, w1.. tids: thread ids that the process may use */
    PM_TID_FREE = VOS_TYPE(DVK_SERVICE_PM, 8), /* w0 tid: that thread has ended (its host thread is gone) */
    PM_PLACE = VOS_TYPE(DVK_SERVICE_PM, 9), /* asked at exec, after all checks that can fail. w0 flags (PM_PLACE_*), data: value of DVS_PLACE
                                  or empty. reply: w0 enum pm_place_result */
    PM_EXEC = VOS_TYPE(DVK_SERVICE_PM, 10), /* w0 offset w1 total length, data: the next part of the image (vos/image.h), in order of offset;
                                  fds with any part, in the order of the image's host descriptors. The reply to the last part is 0 when the
                                  new place is ready: the process must then end at once by exit_group(0); else errno, and it goes on */
    PM_EXECED = VOS_TYPE(DVK_SERVICE_PM, 11), /* in-place exec is done. w0 0, data: "comm\0cmdline" */
    PM_EXIT = VOS_TYPE(DVK_SERVICE_PM, 12), /* w0 wait status the parent is to see; sent by exit_group just before the host exit */
    /* --- process relations, by guests --- */
    PM_WAIT = VOS_TYPE(DVK_SERVICE_PM, 20), /* w0 idtype-like pid as in wait4(2) (>0, -1, 0, <-1) w1 options (WNOHANG, WUNTRACED, WCONTINUED, WEXITED,
                                  WNOWAIT as waitid's bits). reply: w0 pid (0: none ready with WNOHANG) w1 wait status
                                  w2 uid; data: struct rusage of the child. Blocks; cancel gives -EINTR */
    PM_KILL = VOS_TYPE(DVK_SERVICE_PM, 21), /* w0 pid as in kill(2) w1 signal */
    PM_TGKILL = VOS_TYPE(DVK_SERVICE_PM, 22), /* w0 tgid (or -1: tkill) w1 tid w2 signal */
    PM_SIGQUEUE = VOS_TYPE(DVK_SERVICE_PM, 23), /* w0 pid w1 tid or 0 w2 signal, data: siginfo_t as the caller built it (si_code < 0) */
    PM_GETPPID = VOS_TYPE(DVK_SERVICE_PM, 24), /* reply: w0 ppid */
    PM_SETPGID = VOS_TYPE(DVK_SERVICE_PM, 25), /* w0 pid w1 pgid */
    PM_GETPGID = VOS_TYPE(DVK_SERVICE_PM, 26), /* w0 pid. reply: w0 pgid */
    PM_SETSID = VOS_TYPE(DVK_SERVICE_PM, 27), /* reply: w0 sid */
    PM_GETSID = VOS_TYPE(DVK_SERVICE_PM, 28), /* w0 pid. reply: w0 sid */
    PM_SETIDS = VOS_TYPE(DVK_SERVICE_PM, 29), /* w0 which (PM_IDS_*), w1 w2 w3 the ids (-1: unchanged). reply as PM_HELLO's w4..w6 */
    PM_SETGROUPS = VOS_TYPE(DVK_SERVICE_PM, 30), /* data: u32[] */
    PM_RUSAGE = VOS_TYPE(DVK_SERVICE_PM, 31), /* w0 who: RUSAGE_CHILDREN. reply data: struct rusage */
    PM_PRIORITY = VOS_TYPE(DVK_SERVICE_PM, 32), /* w0 0 get / 1 set, w1 which w2 who w3 value. reply: w0 20 - nice (get) */
    PM_SCHED = VOS_TYPE(DVK_SERVICE_PM, 33), /* w0 pid: -ESRCH unless it exists and is the caller's to look at */
    PM_NODES = VOS_TYPE(DVK_SERVICE_PM, 34), /* reply: w0 this node's id; data: "name\0" of each node of the DC that is up, sorted by id */
    PM_RLIMIT = VOS_TYPE(DVK_SERVICE_PM, 35), /* w0 pid w1 resource w2 set? w3 soft w4 hard. reply: w0 soft w1 hard (the old) */
    PM_UMASK = VOS_TYPE(DVK_SERVICE_PM, 36), /* w0 new umask, told so that fork and exec elsewhere inherit it */
    PM_CHLD_IGNORE = VOS_TYPE(DVK_SERVICE_PM, 37), /* told at each rt_sigaction of SIGCHLD that changes it: w0 PM_CHLD_* bits. fork
                                  inherits them; exec keeps only PM_CHLD_IGN */

    /* --- between pms (source must be a pm of the same DC) --- */
    PM_S_SPAWN = VOS_TYPE(DVK_SERVICE_PM, 64), /* take over a process that execs here: see pm/remote.h */
    PM_S_LOCATE = VOS_TYPE(DVK_SERVICE_PM, 65),
    PM_S_MOVED = VOS_TYPE(DVK_SERVICE_PM, 66),
    PM_S_CHILD_STATE = VOS_TYPE(DVK_SERVICE_PM, 67),
    PM_S_SIGNAL = VOS_TYPE(DVK_SERVICE_PM, 68),
    PM_S_RELATE = VOS_TYPE(DVK_SERVICE_PM, 69),
    PM_S_LIST = VOS_TYPE(DVK_SERVICE_PM, 70),
    PM_S_JOIN = VOS_TYPE(DVK_SERVICE_PM, 71),
    /* from other servers of the DC (and between pms): see pm/info.h; PM_S_LIST too */
    PM_S_INFO = VOS_TYPE(DVK_SERVICE_PM, 72),
    PM_S_RAISE = VOS_TYPE(DVK_SERVICE_PM, 73),
    PM_S_GROUP = VOS_TYPE(DVK_SERVICE_PM, 74),
};

enum pm_chld_flags {
    PM_CHLD_IGN = 1u,     /* SIGCHLD is SIG_IGN: children leave no zombies, no signal */
    PM_CHLD_NOWAIT = 2u,  /* SA_NOCLDWAIT: no zombies, but the signal */
    PM_CHLD_NOSTOP = 4u   /* SA_NOCLDSTOP: no signal for stopped and continued children */
};

enum pm_flags { PM_F_STRICT = 1u /* debug: calls from outside the personality kill */, PM_F_TRACE = 2u };
enum pm_place_flags {
    PM_PLACE_FRESH = 1u, /* cannot go on in place: a vfork child or changed credentials */
    PM_PLACE_LOCAL = 2u  /* cannot leave this node (holds descriptors that cannot): never answer PM_REMOTE */
};
enum pm_place_result {
    PM_IN_PLACE = 0,   /* the same process goes on: load the program, then PM_EXECED */
    PM_FRESH_HERE = 1, /* a new host process on this node: PM_EXEC with host fds, then exit */
    PM_REMOTE = 2      /* another node: first turn every host fd into a handle by FS_EXPORT, then PM_EXEC, then exit */
};
enum pm_ids {
    PM_IDS_SETUID, PM_IDS_SETGID, PM_IDS_SETREUID, PM_IDS_SETREGID, PM_IDS_SETRESUID, PM_IDS_SETRESGID,
    PM_IDS_SETFSUID, PM_IDS_SETFSGID, PM_IDS_GET
};

/* Signals from pm reach a process as host signals queued with si_code VOS_SI_CODE (the kernel lets pm set
 * neither SI_USER nor CLD_*): the personality rebuilds the siginfo that the guest sees. Layout of the
 * queued siginfo_t, from its start: int si_signo, si_errno, si_code = VOS_SI_CODE, pad; then at byte 16: */
#define VOS_SI_CODE (-0x4456) /* "DV" */
struct vos_siginfo_fields {
    int32_t code;   /* the si_code that the guest is to see */
    int32_t pid;
    uint32_t uid;
    int32_t status; /* SIGCHLD: si_status */
    uint64_t value; /* si_value for SI_QUEUE and the like */
    uint32_t utime, stime; /* SIGCHLD, clock ticks */
};
/* The kernel keeps 48 bytes of a siginfo with a si_code that it does not know, and refuses (E2BIG) what has more. */
_Static_assert(sizeof(struct vos_siginfo_fields) == 32, "layout");

/* ------------------------------------------------------------------ fs */
/*
 * Handles: an fs handle is a number in the caller process's table at its cell's fs. fork copies the table;
 * exec keeps it (the personality closes what is close-on-exec); exit drops it. The object may live on any node.
 *
 * Reply of operations that open (FS_OPEN, FS_IMPORT): status = enum fs_grant; w0 handle (or -1), w1 kind
 * (enum fs_kind), w2 flags (FS_O_*); data: struct vos_stat. With FS_GRANT_FD a host fd comes along and w0 is -1:
 * the personality uses the fd directly, and there is nothing to close at fs.
 */
enum fs_grant { FS_GRANT_HANDLE = 0, FS_GRANT_FD = 1 };
enum fs_kind { FS_KIND_FILE = 1, FS_KIND_DIR, FS_KIND_PIPE, FS_KIND_CHAR /* null, zero, random */, FS_KIND_TTY, FS_KIND_PATH /* O_PATH */,
               FS_KIND_SOCKET /* one of a pair */ };
enum fs_open_flags {
    FS_O_IMMUTABLE = 1u, /* the stat given is true as long as it is open (image file) */
    FS_O_LOCAL = 2u,     /* object lives on this node */
    FS_O_DGRAM = 4u,     /* a socket that is not a stream: SOCK_DGRAM */
    FS_O_SEQPACKET = 8u, /* ... SOCK_SEQPACKET */
};

/* Word of the reply to an operation on a relative path: the number of the directory w0 in the table of names, 0: none. */
#define FS_W_NUMBER 25

enum fs_type {
    /* paths: w0 directory (handle or VOS_CWD), data: path */
    FS_OPEN = VOS_TYPE(DVK_SERVICE_FS, 1),   /* w1 open flags w2 mode (umask applied by the caller) w3 1: to run it: needs X in place of R; the path, links
                                                followed, may follow the stat then */
    FS_STAT = VOS_TYPE(DVK_SERVICE_FS, 2),   /* w1 AT_* flags (SYMLINK_NOFOLLOW, EMPTY_PATH). reply data: struct vos_stat */
    FS_ACCESS = VOS_TYPE(DVK_SERVICE_FS, 3), /* w1 mode (R_OK..) w2 AT_* flags (EACCESS, SYMLINK_NOFOLLOW) */
    FS_READLINK = VOS_TYPE(DVK_SERVICE_FS, 4), /* w1 size. reply: status length, data: target */
    FS_MKDIR = VOS_TYPE(DVK_SERVICE_FS, 5),  /* w1 mode */
    FS_UNLINK = VOS_TYPE(DVK_SERVICE_FS, 6), /* w1 AT_REMOVEDIR or 0 */
    FS_RENAME = VOS_TYPE(DVK_SERVICE_FS, 7), /* w1 new directory w2 RENAME_* flags; data: "old\0new\0" */
    FS_LINK = VOS_TYPE(DVK_SERVICE_FS, 8),   /* w1 new directory w2 AT_SYMLINK_FOLLOW, AT_EMPTY_PATH; data: "old\0new\0" */
    FS_SYMLINK = VOS_TYPE(DVK_SERVICE_FS, 9), /* data: "target\0link\0" (directory is the link's) */
    FS_MKNOD = VOS_TYPE(DVK_SERVICE_FS, 10), /* w1 mode w2 dev: regular files and FIFOs; devices: EPERM */
    FS_CHMOD = VOS_TYPE(DVK_SERVICE_FS, 11), /* w1 mode w2 AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH */
    FS_CHOWN = VOS_TYPE(DVK_SERVICE_FS, 12), /* w1 uid w2 gid w3 AT_* */
    FS_UTIMENS = VOS_TYPE(DVK_SERVICE_FS, 13), /* w1..w4 atime s, ns, mtime s, ns (UTIME_NOW, UTIME_OMIT) w5 AT_* */
    FS_TRUNCATE = VOS_TYPE(DVK_SERVICE_FS, 14), /* w1 length */
    FS_STATFS = VOS_TYPE(DVK_SERVICE_FS, 15), /* reply data: struct statfs; AT_EMPTY_PATH with a handle allowed: path "" */
    FS_CHDIR = VOS_TYPE(DVK_SERVICE_FS, 16), /* path, or "" with w0 a directory handle (fchdir) */
    FS_GETCWD = VOS_TYPE(DVK_SERVICE_FS, 17), /* reply data: path with NUL, status its length with the NUL */
    FS_XATTR = VOS_TYPE(DVK_SERVICE_FS, 18), /* w1 0 get 1 set 2 list 3 remove w2 AT_* w3 size w4 setxattr flags; data: "path\0name\0value".
                                                reply: status length, data: value or list */
    FS_NAMES = VOS_TYPE(DVK_SERVICE_FS, 19), /* reply: fds: [the table of names (vos/names.h), to be mapped for reading] */
    FS_OPENDIR = VOS_TYPE(DVK_SERVICE_FS, 20), /* w0 number of a directory in that table w1 open flags. reply as FS_OPEN */
    FS_LISTDIR = VOS_TYPE(DVK_SERVICE_FS, 21), /* w0 number of a directory in that table: put its listing there. -EAGAIN: it cannot be */
    /* objects: w0 handle */
    FS_CLOSE = VOS_TYPE(DVK_SERVICE_FS, 32),
    FS_READ = VOS_TYPE(DVK_SERVICE_FS, 33),  /* w1 length (<= DVK_DATA_MAX) w2 offset or -1 (the file's position) w3 enum fs_read_flags.
                                                reply: status count, data; sockets: w0 length of the whole message. Blocks on pipes, sockets, ttys;
                                                cancel: -EINTR */
    FS_WRITE = VOS_TYPE(DVK_SERVICE_FS, 34), /* w1 offset or -1 w2 1: do not block w3 1: append; data. reply: status count; may be short for pipes.
                                                -EPIPE: the personality raises SIGPIPE */
    FS_LSEEK = VOS_TYPE(DVK_SERVICE_FS, 35), /* w1 offset w2 whence. reply: w0 new offset */
    FS_FSTAT = VOS_TYPE(DVK_SERVICE_FS, 36), /* reply data: struct vos_stat */
    FS_GETDENTS = VOS_TYPE(DVK_SERVICE_FS, 37), /* w1 size. reply: status length, data: struct linux_dirent64[]; w0 1: nothing follows */
    FS_FTRUNCATE = VOS_TYPE(DVK_SERVICE_FS, 38), /* w1 length */
    FS_FSYNC = VOS_TYPE(DVK_SERVICE_FS, 39), /* w1 1: data only */
    FS_FALLOCATE = VOS_TYPE(DVK_SERVICE_FS, 40), /* w1 mode w2 offset w3 length */
    FS_IOCTL = VOS_TYPE(DVK_SERVICE_FS, 41), /* w1 command w2 scalar argument; data: in; reply data: out. FIONREAD, FIONBIO, and the tty's */
    FS_POLL = VOS_TYPE(DVK_SERVICE_FS, 42),  /* w1 events wanted (POLL*) w2 0: now; 1: reply when one is true or on cancel. reply: w0 revents */
    FS_SETFL = VOS_TYPE(DVK_SERVICE_FS, 43), /* w1 status flags (O_NONBLOCK, O_APPEND) */
    FS_LOCK = VOS_TYPE(DVK_SERVICE_FS, 44),  /* w1 0 F_GETLK 1 F_SETLK 2 F_SETLKW 3 flock (w2 = operation); w2 type w3 start w4 len (absolute) w5 1: OFD.
                                                reply (GETLK): w0 type w1 start w2 len w3 pid. w0 may be -1 with a host fd sent along (granted files):
                                                flock and OFD locks are then best taken on that fd itself, whose open file description
                                                is the guest's, so that they end with it */
    FS_POLL_SET = VOS_TYPE(DVK_SERVICE_FS, 45), /* many at once: w0 count w1 timeout in ms (-1: for ever, 0: now); data: struct vos_poll[count]; perhaps one host fd
                                                (an epoll fd of the guest's own host fds; ready = readable). Reply as soon as one is true, the time is
                                                over, or on cancel (-EINTR): status: how many handles are ready, data: uint32_t revents[count]; w0 1: the fd is ready */
    FS_SOCKET = VOS_TYPE(DVK_SERVICE_FS, 46), /* w1 enum fs_socket_op w2 how of shutdown(2), or option of SOL_SOCKET; data: value. reply data: value */
    /* hand-over at exec elsewhere, and back */
    FS_EXPORT = VOS_TYPE(DVK_SERVICE_FS, 48), /* fds: [granted host fd]; w0 its kind (enum fs_kind) w1 its status flags. reply: w0 handle */
    FS_REGRANT = VOS_TYPE(DVK_SERVICE_FS, 49), /* w0 handle of an object of this node: give its host fd back, if it may be had. reply as FS_OPEN;
                                                  -EAGAIN: keep the handle */
    FS_HOSTFD_INFO = VOS_TYPE(DVK_SERVICE_FS, 50), /* fds: [granted host fd]; or none, and w0 a handle (any kind, also directories). reply data: struct vos_stat as the DC sees it; w0 path length,
                                                  path after the stat (for /proc/self/fd) */
    FS_HOSTFD_OP = VOS_TYPE(DVK_SERVICE_FS, 51), /* fds: [granted host fd]; w0 operation (the FS_F* or FS_CHMOD..FS_XATTR type) and w1.. its words, no path in the data: fchmod, fchown,
                                                  futimens, fstatfs, fxattr, flock and fcntl locks of granted files */

    /* between fs and pm of a cell (one process: a function call) */
    FS_S_FORK = VOS_TYPE(DVK_SERVICE_FS, 64), /* w0 parent pid w1 child pid */
    FS_S_EXIT = VOS_TYPE(DVK_SERVICE_FS, 65), /* w0 pid */
    FS_S_CREDS = VOS_TYPE(DVK_SERVICE_FS, 66), /* w0 pid w1 fsuid w2 fsgid w3 umask; data: groups u32[] */
    FS_S_EXPORTS = VOS_TYPE(DVK_SERVICE_FS, 67), /* w0 pid: describe all handles and the working directory of a process that leaves; see fs/remote.h */
    FS_S_IMPORTS = VOS_TYPE(DVK_SERVICE_FS, 68), /* w0 pid, data as FS_S_EXPORTS replied: take them over for a process that arrives */
    FS_S_TTY = VOS_TYPE(DVK_SERVICE_FS, 69), /* w0 pid w1 tty number (tty/tty.h): give the process a handle of that tty, open for reading and
                                                writing (fs asks TTY_OPEN with O_NOCTTY). reply: w0 handle. For a DC's first program */
    FS_S_START = VOS_TYPE(DVK_SERVICE_FS, 70), /* w0 pid, data: absolute path: a process without a parent begins; the path is its working directory
                                                  to enter with root's rights. status: as chdir(2). FS_S_CREDS follows */
    FS_S_ADOPT = VOS_TYPE(DVK_SERVICE_FS, 71), /* fds: [host fd]; w0 pid w1 kind (enum fs_kind) w2 status flags: FS_EXPORT on behalf of process w0 (a first
                                                  program that starts on another node). reply: w0 handle */
    /* between fs servers: see fs/remote.h */
    FS_S_REMOTE = VOS_TYPE(DVK_SERVICE_FS, 80), /* ... 127 */
};

enum fs_read_flags { FS_READ_NO_WAIT = 1u, FS_READ_PEEK = 2u /* sockets: leave it there */ };
enum fs_socket_op { FS_SOCKET_SHUTDOWN, FS_SOCKET_GET, FS_SOCKET_SET };

/* One object of FS_POLL_SET. */
struct vos_poll {
    int64_t handle;
    uint32_t events; /* POLL* */
    uint32_t pad;
};

/* What stat shows; identical to x86-64's struct stat in the first 144 bytes, then what statx adds. */
struct vos_stat {
    uint64_t st_dev, st_ino, st_nlink;
    uint32_t st_mode, st_uid, st_gid, pad0;
    uint64_t st_rdev;
    int64_t st_size, st_blksize, st_blocks;
    int64_t st_atime_s, st_atime_ns, st_mtime_s, st_mtime_ns, st_ctime_s, st_ctime_ns;
    int64_t unused[3];
    int64_t btime_s, btime_ns; /* 0: unknown */
};
_Static_assert(sizeof(struct vos_stat) == 160, "layout");

/* ------------------------------------------------------------------ tty
 * A tty is opened through fs (/dev/tty, /dev/pts/N, inherited descriptors); its handle works with FS_READ,
 * FS_WRITE, FS_IOCTL, FS_POLL. fs hands these on to the tty server (same words). Job control: TIOCGPGRP,
 * TIOCSPGRP, TIOCSCTTY, TIOCNOTTY, TIOCGSID act on the DC's sessions.
 *
 * w17 of FS_READ, FS_WRITE and FS_IOCTL on a tty: enum vos_tty_caller, filled in by the personality (fs hands it on); without
 * VOS_TTY_KNOWN the server looks for itself, which it can only for processes of its own node. */
enum vos_tty_caller {
    VOS_TTY_KNOWN = 2u,    /* the next two are filled in */
    VOS_TTY_TTIN_OFF = 4u, /* the calling thread blocks or ignores SIGTTIN */
    VOS_TTY_TTOU_OFF = 8u, /* ... SIGTTOU */
};

#endif
