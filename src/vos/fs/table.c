/* SPDX-License-Identifier: Apache-2.0 */
/* From message type to handler. */
#include "vos/fs/fs.h"

static const struct op_row rows[] = {
    {FS_OPEN, do_open, OP_PATH, "open"}, /* read_only is decided by its flags */
    {FS_STAT, do_stat, OP_PATH | OP_READ, "stat"},
    {FS_ACCESS, do_access, OP_PATH | OP_READ, "access"},
    {FS_READLINK, do_readlink, OP_PATH | OP_READ, "readlink"},
    {FS_MKDIR, do_mkdir, OP_PATH, "mkdir"},
    {FS_UNLINK, do_unlink, OP_PATH, "unlink"},
    {FS_RENAME, do_rename, OP_PATH | OP_PATH2, "rename"},
    {FS_LINK, do_link, OP_PATH | OP_PATH2, "link"},
    {FS_SYMLINK, do_symlink, OP_PATH | OP_NAME2, "symlink"},
    {FS_MKNOD, do_mknod, OP_PATH, "mknod"},
    {FS_CHMOD, do_chmod, OP_PATH, "chmod"},
    {FS_CHOWN, do_chown, OP_PATH, "chown"},
    {FS_UTIMENS, do_utimens, OP_PATH, "utimens"},
    {FS_TRUNCATE, do_truncate, OP_PATH, "truncate"},
    {FS_STATFS, do_statfs, OP_PATH | OP_READ, "statfs"},
    {FS_CHDIR, do_chdir, OP_PATH | OP_READ, "chdir"},
    {FS_GETCWD, do_getcwd, OP_READ, "getcwd"},
    {FS_XATTR, do_xattr, OP_PATH | OP_NAME2, "xattr"},
    {FS_OPENDIR, do_opendir, OP_READ, "opendir"},
    {FS_LISTDIR, do_listdir, OP_READ, "listdir"},
    {FS_CLOSE, do_close, OP_HANDLE, "close"},
    {FS_READ, do_read, OP_HANDLE, "read"},
    {FS_WRITE, do_write, OP_HANDLE, "write"},
    {FS_LSEEK, do_lseek, OP_HANDLE, "lseek"},
    {FS_FSTAT, do_fstat, OP_HANDLE | OP_READ, "fstat"},
    {FS_GETDENTS, do_getdents, OP_HANDLE | OP_READ, "getdents"},
    {FS_FTRUNCATE, do_ftruncate, OP_HANDLE, "ftruncate"},
    {FS_FSYNC, do_fsync, OP_HANDLE, "fsync"},
    {FS_FALLOCATE, do_fallocate, OP_HANDLE, "fallocate"},
    {FS_IOCTL, do_ioctl, OP_HANDLE, "ioctl"},
    {FS_POLL, do_poll, OP_HANDLE, "poll"},
    {FS_SETFL, do_setfl, OP_HANDLE, "setfl"},
    {FS_LOCK, do_lock, OP_HANDLE, "lock"},
    {FS_POLL_SET, do_poll_set, 0, "poll_set"},
    {FS_SOCKET, do_socket, OP_HANDLE, "socket"},
    {FS_EXPORT, do_export, 0, "export"},
    {FS_REGRANT, do_regrant, OP_HANDLE, "regrant"},
    {FS_HOSTFD_INFO, do_hostfd_info, 0, "hostfd_info"},
    {FS_HOSTFD_OP, do_hostfd_op, 0, "hostfd_op"},
};

const struct op_row *table_find(uint32_t type) {
    static uint8_t index[256]; /* row + 1 by operation */
    if (!index[FS_OPEN & 0xff])
        for (unsigned i = 0; i < ARRAY_LENGTH(rows); i++)
            index[rows[i].type & 0xff] = (uint8_t)(i + 1);
    if (VOS_SERVICE(type) != DVK_SERVICE_FS || !index[type & 0xff])
        return NULL;
    return &rows[index[type & 0xff] - 1];
}
