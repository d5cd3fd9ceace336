/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol of file_server. Each request names its file, so that the server keeps nothing between requests: one that
 * is lost with its node leaves nothing behind to clean up.
 */
#ifndef FILES_H
#define FILES_H

#include <dvk/message.h>

#define FILES_NAME_MAX 127  /* bytes of a name, and a NUL; no '/', no '.' in front */
#define FILES_CHUNK 65536u  /* most bytes a request carries; not more than DVK_DATA_MAX */

enum files_type {
    FILES_SIZE = 1, /* reply: size, mode */
    FILES_READ,     /* offset, length. reply: data: less than length at the end of the file */
    FILES_WRITE,    /* offset; data: into NAME.part */
    FILES_FINISH,   /* size, mode: NAME.part gets them and becomes NAME */
};

struct files_request { /* the payload of requests */
    char name[FILES_NAME_MAX + 1];
    uint64_t offset;
    uint64_t size;
    uint32_t length;
    uint32_t mode;
};
struct files_reply { /* and of replies to FILES_SIZE */
    uint64_t size;
    uint32_t mode;
    uint32_t reserved;
};

#endif
