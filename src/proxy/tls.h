/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte stream over a connected, non-blocking socket: TLS 1.3 with certificates on both sides (cluster/pki.h), or clear.
 * Never blocks; not thread safe. peer.c waits for the socket.
 *
 * One record carries what several frames have to say: stream_write takes up to a record's worth from the parts that it
 * is given; a first part that fills one is encrypted from where it lies. What it has taken counts as written: it keeps it until the socket takes it (stream_wants_out), as the socket
 * itself would.
 */
#ifndef PROXY_TLS_H
#define PROXY_TLS_H

#include "cluster/pki.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define STREAM_RECORD 16384u /* most bytes that TLS carries at once */
#define STREAM_WHY 200

struct tls; /* this node's certificate and the cluster's authority */

struct stream {
    int fd; /* -1: none */
    struct ssl_st *ssl; /* NULL: clear */
    uint8_t *staged; /* taken by stream_write, not yet by the socket */
    size_t staged_len, staged_at;
    bool blocked;         /* the last attempt to write found the socket full */
    char why[STREAM_WHY]; /* after -EPROTO: what is wrong, for people */
};
#define STREAM_NONE                                                                                                    \
    (struct stream) { .fd = -1 }

/* Read ca.crt, node.crt and node.key in directory. *self: who we are. 0 or negative with *failure. */
int tls_create(const char *directory, struct tls **out, struct pki_identity *self, struct failure *failure);
void tls_destroy(struct tls *tls);

/* Take over fd. tls NULL: a clear stream, at once usable. Else stream_handshake comes first. 0 or -ENOMEM (fd stays the
 * caller's). */
int stream_begin(struct stream *stream, int fd, struct tls *tls, bool accepting);
/* Close; harmless twice. What is staged is lost. */
void stream_end(struct stream *stream);
/* Hand the stream over; `from` is none then. */
struct stream stream_steal(struct stream *from);

/* 1: done; 0: call again when the socket is ready (for writing too, if stream_wants_out); -EPROTO: refused by us or by
 * the other side, see why. Clear streams: 1. */
int stream_handshake(struct stream *stream);
/* After the handshake of an accepted stream: does it want to join the cluster (no certificate was asked for)? */
bool stream_is_join(const struct stream *stream);
/* After the handshake: who the other side's certificate says it is; false: it has none that names a node. */
bool stream_identity(const struct stream *stream, struct pki_identity *out);
/* "clear", or the name of the cipher suite. */
const char *stream_cipher(const struct stream *stream);
/* What the handshake found wrong with this certificate is said at the other side by an alert; no more is written then, and
 * reading goes on until the other side has ended. */
void stream_shut(struct stream *stream);

/* Bytes read; 0: the other side has ended; -EAGAIN; -EPROTO with why; another negative errno. */
ssize_t stream_read(struct stream *stream, void *bytes, size_t len);
/* Bytes taken; -EAGAIN: none, as what was taken before waits for the socket; else a negative errno. */
ssize_t stream_write(struct stream *stream, const struct iovec *parts, int count);
/* Give the socket what is staged. 0: nothing is staged any more; else as stream_write. */
int stream_flush(struct stream *stream);
/* From now on what the socket has is read ahead of what is asked for: nobody but stream_read may read it then, and after it,
 * stream_has_more says that there may be more although the socket is empty. */
void stream_read_ahead(struct stream *stream);
bool stream_has_more(const struct stream *stream);
static inline bool stream_wants_out(const struct stream *stream) {
    return stream->blocked;
}
static inline bool stream_is_encrypted(const struct stream *stream) {
    return stream->ssl != NULL;
}

/* ALPN protocol names: what a connection is for. */
#define TLS_ALPN_LINK "dvs-link/1"
#define TLS_ALPN_JOIN "dvs-join/1"

#endif
