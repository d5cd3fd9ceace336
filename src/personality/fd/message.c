/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to fs, calls on host fds, and small helpers. */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"

void fs_prepare(struct rpc *rpc, uint32_t type) {
    __builtin_memset(rpc, 0, sizeof(*rpc));
    rpc->message.type = type;
}

long fs_call(struct task *task, struct rpc *rpc) {
    rpc->flags |= RPC_UNINTERRUPTIBLE;
    return rpc_call(task, rpc);
}

long fs_call_blocking(struct task *task, struct rpc *rpc) {
    return fs_interrupted(rpc_call(task, rpc));
}

void fs_tell_caller(struct task *task, const struct file *file, struct rpc *rpc) {
    if (file->kind != FS_KIND_TTY)
        return;
    uint64_t off = task->blocked | signals_ignored(task->process), flags = VOS_TTY_KNOWN;
    if (off >> (ABI_SIGTTIN - 1) & 1)
        flags |= VOS_TTY_TTIN_OFF;
    if (off >> (ABI_SIGTTOU - 1) & 1)
        flags |= VOS_TTY_TTOU_OFF;
    rpc->message.payload.words[17] = flags;
}

/* Regular files never end a call with EINTR; all others may wait. */
long file_host_call(struct task *task, struct file *file, long number, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                    uint64_t f) {
    if (file->kind == FS_KIND_FILE || file->kind == FILE_MEMFD)
        return host_call(number, (uint64_t)file->host_fd, b, c, d, e, f);
    return fs_interrupted(host_blocking(task, number, (uint64_t)file->host_fd, b, c, d, e, f));
}

int64_t clock_now(void) {
    struct __kernel_timespec now = {0};
    (void)host_call(__NR_clock_gettime, ABI_CLOCK_MONOTONIC, (uint64_t)&now, 0, 0, 0, 0);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

size_t decimal_put(char *to, uint64_t number) {
    char digits[20];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    for (size_t i = 0; i < n; i++)
        to[i] = digits[n - 1 - i];
    return n;
}

int64_t decimal_parse(const char **text, int64_t max) {
    const char *at = *text;
    if (*at < '0' || *at > '9' || (*at == '0' && at[1] >= '0' && at[1] <= '9'))
        return -1;
    int64_t number = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        number = number * 10 + (*at - '0');
        if (number > max)
            return -1;
    }
    *text = at;
    return number;
}
