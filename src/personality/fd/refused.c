/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that a container's program may not make (mounts and the like), and sockets other than pairs, which do not exist
 * yet: a program learns so from the error that Linux gives where the family was not compiled in.
 */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"
#include "personality/fd/calls.h"

long sys_not_permitted(struct task *task, const uint64_t args[6]) {
    return -EPERM;
}

long sys_no_sockets(struct task *task, const uint64_t args[6]) {
    return -EAFNOSUPPORT;
}

/* bind, listen, accept, connect: the two of a pair are connected for ever. */
long sys_no_names(struct task *task, const uint64_t args[6]) {
    struct file *file = fd_use(task, (int)args[0]);
    long result = !file ? -EBADF : file->kind == FS_KIND_SOCKET ? -EOPNOTSUPP : -ENOTSOCK;
    fd_done(task, file);
    return result;
}

/* No file's handle can be had or opened (name_to_handle_at(2)). */
long sys_no_file_handles(struct task *task, const uint64_t args[6]) {
    return -EOPNOTSUPP;
}
