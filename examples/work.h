/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol of work_server: how many primes are there in [from, to)? */
#ifndef WORK_H
#define WORK_H

#include <stdint.h>

#define WORK_COUNT 1u

struct work_task { /* payload of requests */
    uint64_t from, to;
};
struct work_result { /* payload of replies */
    uint64_t primes;
};

#endif
