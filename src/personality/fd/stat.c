/* SPDX-License-Identifier: Apache-2.0 */
/* stat fstat lstat newfstatat statx access faccessat faccessat2 statfs fstatfs */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"
#include "personality/fd/calls.h"

#define OVERFLOW_ID 65534u     /* an id that our user namespace does not know */
#define STAT_BYTES 144u        /* struct stat: the beginning of struct vos_stat */
#define DEVICE_ANONYMOUS 0x0eu /* pipes, eventfds: any number that no file system here has */
#define STATFS_BYTES 120u      /* struct statfs */
#define PIPEFS_MAGIC 0x50495045u

static long host_stat(const struct file *file, struct vos_stat *stat) {
    __builtin_memset(stat, 0, sizeof(*stat));
    long result = host_call(__NR_fstat, (uint64_t)file->host_fd, (uint64_t)stat, 0, 0, 0, 0);
    stat->unused[0] = stat->unused[1] = stat->unused[2] = 0;
    return result;
}

/* What the host alone knows (pipes and the like); their owner is not kept, and shown as root. */
static long anonymous_stat(const struct file *file, struct vos_stat *stat) {
    long result = host_stat(file, stat);
    stat->st_dev = DEVICE_ANONYMOUS;
    stat->st_uid = stat->st_gid = 0;
    return result;
}

static long stat_by_message(struct task *task, struct file *file, struct vos_stat *stat) {
    struct rpc rpc;
    if (file->host_fd >= 0) {
        fs_prepare(&rpc, FS_HOSTFD_INFO);
        rpc.message.payload.ints[0] = -1;
        rpc.send_fds = &file->host_fd;
        rpc.send_fd_count = 1;
    } else {
        long handle = directory_handle(task, file);
        if (handle < 0)
            return handle;
        fs_prepare(&rpc, FS_FSTAT);
        rpc.message.payload.ints[0] = handle;
    }
    rpc.reply = stat;
    rpc.reply_cap = sizeof(*stat);
    long result = fs_call(task, &rpc);
    if (result < 0)
        return result;
    if (rpc.reply_len < sizeof(*stat))
        return -EIO;
    file->stat = *stat;
    file->stat_known = true;
    return 0;
}

/*
 * A granted file of the writable layer: the host's fstat tells the truth about all but the numbers by which the DC
 * knows the file; these were given when it was opened, and never change.
 */
static long granted_stat(struct task *task, struct file *file, struct vos_stat *stat) {
    long result = host_stat(file, stat);
    if (result < 0)
        return result;
    if (!file->stat_known || stat->st_uid == OVERFLOW_ID || stat->st_gid == OVERFLOW_ID)
        return stat_by_message(task, file, stat);
    stat->st_dev = file->stat.st_dev;
    stat->st_ino = file->stat.st_ino;
    stat->st_rdev = file->stat.st_rdev;
    stat->btime_s = file->stat.btime_s;
    stat->btime_ns = file->stat.btime_ns;
    return 0;
}

void fd_directory_stat(struct vos_stat *stat) {
    __builtin_memset(stat, 0, sizeof(*stat));
    stat->st_dev = DEVICE_ANONYMOUS;
    stat->st_ino = 2;
    stat->st_nlink = 2;
    stat->st_mode = S_IFDIR | 0500;
    stat->st_blksize = 1024;
}

static void link_stat(struct vos_stat *stat, const struct file *file, int vfd) {
    __builtin_memset(stat, 0, sizeof(*stat));
    stat->st_dev = DEVICE_ANONYMOUS;
    stat->st_ino = 16 + (uint64_t)(uint32_t)vfd;
    stat->st_nlink = 1;
    stat->st_mode = S_IFLNK;
    stat->st_size = 64;
    stat->st_blksize = 1024;
    if (!file) {
        stat->st_mode |= 0777;
        return;
    }
    if (file_readable(file))
        stat->st_mode |= 0500;
    if (file_writable(file))
        stat->st_mode |= 0300;
}

long file_stat(struct task *task, struct file *file, struct vos_stat *stat) {
    if (file->stat_known && (file->open_flags & FS_O_IMMUTABLE || (file->kind == FS_KIND_CHAR && file->host_fd >= 0))) {
        *stat = file->stat;
        return 0;
    }
    if (file->kind == FILE_FD_DIRECTORY) {
        fd_directory_stat(stat);
        return 0;
    }
    if (file->kind >= FILE_EVENT || (file->kind == FS_KIND_SOCKET && file->host_fd >= 0) ||
        (file->kind == FS_KIND_PIPE && file->host_fd >= 0 && !file->stat_known))
        return anonymous_stat(file, stat);
    if (file->host_fd >= 0)
        return granted_stat(task, file, stat);
    struct names_found found = {.stat = stat};
    if (file->kind == FS_KIND_DIR && names_table && names_by_number(names_table, file->number, &found) == 0) {
        if (found.mode)
            return 0;
        /* Who opens a directory and looks at it will list it. */
        if (file->handle < 0 && directory_publish(task, file) && names_by_number(names_table, file->number, &found) == 0 && found.mode)
            return 0;
    }
    return stat_by_message(task, file, stat);
}

static long path_stat(struct task *task, struct place *place, uint32_t at_flags, struct vos_stat *stat) {
    switch (place->kind) {
    case PLACE_FILE:
        return file_stat(task, place->file, stat);
    case PLACE_FD_DIRECTORY:
        fd_directory_stat(stat);
        return 0;
    case PLACE_FD_LINK:
        link_stat(stat, place->file, place->vfd);
        return 0;
    case PLACE_EXE_LINK:
        link_stat(stat, NULL, -1);
        return 0;
    case PLACE_PATH:
        break;
    }
    struct names_found found = {.stat = stat};
    long known = place_look(task, place, !(at_flags & AT_SYMLINK_NOFOLLOW), &found);
    if (known != NAMES_ASK && (known < 0 || found.mode))
        return known;
    struct rpc rpc;
    fs_prepare(&rpc, FS_STAT);
    rpc.message.payload.words[1] = at_flags & AT_SYMLINK_NOFOLLOW;
    rpc.reply = stat;
    rpc.reply_cap = sizeof(*stat);
    long result = place_request(task, place, &rpc, -1);
    return result < 0 ? result : rpc.reply_len < sizeof(*stat) ? -EIO : 0;
}

/* at_flags: AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH. */
static long stat_at(struct task *task, int dirfd, uint64_t path, uint32_t at_flags, struct vos_stat *stat) {
    struct place place;
    unsigned flags = (at_flags & AT_SYMLINK_NOFOLLOW ? 0 : PLACE_FOLLOW) | (at_flags & AT_EMPTY_PATH ? PLACE_EMPTY : 0);
    if (at_flags & AT_EMPTY_PATH && path == 0) { /* NULL means "" there, since Linux 6.11 */
        struct file *file = fd_use(task, dirfd);
        long result = file ? file_stat(task, file, stat) : -EBADF;
        fd_done(task, file);
        return result;
    }
    long result = place_resolve(task, &place, dirfd, path, flags);
    if (result < 0)
        return result;
    result = path_stat(task, &place, at_flags, stat);
    place_end(task, &place);
    return result;
}

static long stat_give(long result, uint64_t to, const struct vos_stat *stat) {
    if (result >= 0)
        result = guest_write(to, stat, STAT_BYTES);
    return result < 0 ? result : 0;
}

long sys_stat(struct task *task, const uint64_t args[6]) {
    struct vos_stat stat;
    return stat_give(stat_at(task, AT_FDCWD, args[0], 0, &stat), args[1], &stat);
}

long sys_lstat(struct task *task, const uint64_t args[6]) {
    struct vos_stat stat;
    return stat_give(stat_at(task, AT_FDCWD, args[0], AT_SYMLINK_NOFOLLOW, &stat), args[1], &stat);
}

long sys_fstat(struct task *task, const uint64_t args[6]) {
    struct file *file = fd_use(task, (int)args[0]);
    if (!file)
        return -EBADF;
    struct vos_stat stat;
    long result = stat_give(file_stat(task, file, &stat), args[1], &stat);
    fd_done(task, file);
    return result;
}

long sys_newfstatat(struct task *task, const uint64_t args[6]) {
    uint32_t flags = (uint32_t)args[3];
    if (flags & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH))
        return -EINVAL;
    struct vos_stat stat;
    return stat_give(stat_at(task, (int)args[0], args[1], flags, &stat), args[2], &stat);
}

/* ---- statx ---- */

static uint32_t device_major(uint64_t device) {
    return (uint32_t)((device >> 8 & 0xfff) | (device >> 32 & ~0xfffull));
}
static uint32_t device_minor(uint64_t device) {
    return (uint32_t)((device & 0xff) | (device >> 12 & ~0xffull));
}

static void statx_fill(struct statx *to, const struct vos_stat *stat) {
    __builtin_memset(to, 0, sizeof(*to));
    to->stx_mask = STATX_BASIC_STATS;
    to->stx_blksize = (uint32_t)stat->st_blksize;
    to->stx_nlink = (uint32_t)stat->st_nlink;
    to->stx_uid = stat->st_uid;
    to->stx_gid = stat->st_gid;
    to->stx_mode = (uint16_t)stat->st_mode;
    to->stx_ino = stat->st_ino;
    to->stx_size = (uint64_t)stat->st_size;
    to->stx_blocks = (uint64_t)stat->st_blocks;
    to->stx_atime = (struct statx_timestamp){stat->st_atime_s, (uint32_t)stat->st_atime_ns, 0};
    to->stx_mtime = (struct statx_timestamp){stat->st_mtime_s, (uint32_t)stat->st_mtime_ns, 0};
    to->stx_ctime = (struct statx_timestamp){stat->st_ctime_s, (uint32_t)stat->st_ctime_ns, 0};
    if (stat->btime_s || stat->btime_ns) {
        to->stx_mask |= STATX_BTIME;
        to->stx_btime = (struct statx_timestamp){stat->btime_s, (uint32_t)stat->btime_ns, 0};
    }
    to->stx_rdev_major = device_major(stat->st_rdev);
    to->stx_rdev_minor = device_minor(stat->st_rdev);
    to->stx_dev_major = device_major(stat->st_dev);
    to->stx_dev_minor = device_minor(stat->st_dev);
}

long sys_statx(struct task *task, const uint64_t args[6]) {
    uint32_t flags = (uint32_t)args[2];
    uint32_t known = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE;
    if (flags & ~known || (flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE || args[3] & STATX__RESERVED)
        return -EINVAL;
    struct vos_stat stat;
    struct statx answer;
    long result = stat_at(task, (int)args[0], args[1], flags, &stat);
    if (result < 0)
        return result;
    statx_fill(&answer, &stat);
    result = guest_write(args[4], &answer, sizeof(answer));
    return result < 0 ? result : 0;
}

/* ---- access ---- */

/*
 * What everyone may do, as far as the table of names shows it. For all else fs knows who is asking; what it may do to the image
 * depends on whether all may read that.
 */
static long access_look(struct task *task, const struct place *place, uint32_t mode, bool follow) {
    struct names_found found = {0};
    long result = place_look(task, place, follow, &found);
    if (result != 0 || mode == 0)
        return result;
    if (found.kind == NAMES_DIR)
        return mode & ABI_W_OK ? NAMES_ASK : 0;
    uint32_t wanted = mode * 0111 | (mode & (ABI_R_OK | ABI_W_OK) ? 0444 : 0);
    return (found.mode & wanted) == wanted ? 0 : NAMES_ASK;
}

static long access_at(struct task *task, int dirfd, uint64_t path, uint32_t mode, uint32_t at_flags) {
    if (mode & ~(uint32_t)(ABI_R_OK | ABI_W_OK | ABI_X_OK))
        return -EINVAL;
    struct place place;
    unsigned flags = (at_flags & AT_SYMLINK_NOFOLLOW ? 0 : PLACE_FOLLOW) | (at_flags & AT_EMPTY_PATH ? PLACE_EMPTY : 0);
    long result = place_resolve(task, &place, dirfd, path, flags);
    if (result < 0)
        return result;
    long known = access_look(task, &place, mode, !(at_flags & AT_SYMLINK_NOFOLLOW));
    if (known != NAMES_ASK) {
        result = known;
    } else if (place.kind == PLACE_PATH ||
               (place.kind == PLACE_FILE && (place.file->handle >= 0 || place.file->kind == FS_KIND_DIR))) {
        struct rpc rpc;
        fs_prepare(&rpc, FS_ACCESS);
        rpc.message.payload.words[1] = mode;
        rpc.message.payload.words[2] = at_flags & (AT_EACCESS | AT_SYMLINK_NOFOLLOW);
        result = place_request(task, &place, &rpc, 2);
    } else if (place.kind == PLACE_FILE && mode & ABI_X_OK) {
        struct vos_stat stat;
        result = file_stat(task, place.file, &stat);
        if (result >= 0 && !(stat.st_mode & 0111))
            result = -EACCES;
    } else {
        result = place.kind == PLACE_FD_DIRECTORY && mode & ABI_W_OK ? -EACCES : 0;
    }
    place_end(task, &place);
    return result < 0 ? result : 0;
}

long sys_access(struct task *task, const uint64_t args[6]) {
    return access_at(task, AT_FDCWD, args[0], (uint32_t)args[1], 0);
}

long sys_faccessat(struct task *task, const uint64_t args[6]) {
    return access_at(task, (int)args[0], args[1], (uint32_t)args[2], 0);
}

long sys_faccessat2(struct task *task, const uint64_t args[6]) {
    if ((uint32_t)args[3] & ~(uint32_t)(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    return access_at(task, (int)args[0], args[1], (uint32_t)args[2], (uint32_t)args[3]);
}

/* ---- statfs ---- */

static long statfs_place(struct task *task, struct place *place, uint64_t to) {
    uint64_t answer[STATFS_BYTES / 8] = {PIPEFS_MAGIC, 4096};
    answer[8] = 255; /* f_namelen */
    answer[9] = 4096;
    long result = 0;
    bool anonymous = place->kind != PLACE_PATH && (place->kind != PLACE_FILE || place->file->kind >= FILE_EVENT ||
                                                   (file_is_stream(place->file) && place->file->host_fd >= 0));
    if (!anonymous) {
        struct rpc rpc;
        fs_prepare(&rpc, FS_STATFS);
        rpc.reply = answer;
        rpc.reply_cap = sizeof(answer);
        result = place_request(task, place, &rpc, 1);
        if (result >= 0 && rpc.reply_len < sizeof(answer))
            result = -EIO;
    }
    if (result >= 0)
        result = guest_write(to, answer, sizeof(answer));
    return result < 0 ? result : 0;
}

long sys_statfs(struct task *task, const uint64_t args[6]) {
    struct place place;
    long result = place_resolve(task, &place, AT_FDCWD, args[0], PLACE_FOLLOW);
    if (result < 0)
        return result;
    result = statfs_place(task, &place, args[1]);
    place_end(task, &place);
    return result;
}

long sys_fstatfs(struct task *task, const uint64_t args[6]) {
    struct place place;
    long result = place_of_fd(task, &place, (int)args[0], true);
    if (result < 0)
        return result;
    result = statfs_place(task, &place, args[1]);
    place_end(task, &place);
    return result;
}
