/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration on disk: an SQLite database with a row a node and a DC, and the (view, epoch) of the state.
 * Each write is one transaction that is on the disk when the call returns. A file that is not such a database, or
 * whose contents make no sense, is never written to.
 */
#ifndef DVKD_STORE_H
#define DVKD_STORE_H

#include "dvkd/config.h"

struct store;

/*
 * Open or create the database and read the configuration. 0: *out and *config are the caller's.
 * Negative: *failure names the file and what to do (code "damaged" or "unavailable").
 */
int store_open(const char *path, struct store **out, struct config **config, struct failure *failure);
void store_close(struct store *store);

/* Write what a change touched, with the new epoch. 0, or a negative errno (logged). */
int store_write_effect(struct store *store, const struct config *config, const struct config_effect *effect);
/* Write config->promised alone. */
int store_write_promise(struct store *store, const struct config *config);
/* Replace everything. */
int store_write_all(struct store *store, const struct config *config);

#endif
