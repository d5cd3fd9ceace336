/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What privileges say (dvk/privilege.h), without anything that keeps or tells them: for libdvk and dvkd.
 *
 * In order, as privileges_check leaves them: no range of slots touches another one, an exact endpoint lies in none, ranges
 * are sorted, system slots are not named beside DVK_PEERS_SERVERS, nothing is beside DVK_PEERS_ALL, what is unused is 0.
 */
#ifndef DVK_PRIVILEGE_SET_H
#define DVK_PRIVILEGE_SET_H

#include <dvk/privilege.h>

enum { PRIVILEGE_TEXT_MAX = 2048 }; /* for privileges_text */

/* Check what somebody else wrote, and put it in order. 0 or -EINVAL. */
int privileges_check(struct dvk_privileges *privileges);
/* Both in order from here on. */
bool peers_contain(const struct dvk_peers *peers, dvk_endpoint endpoint);
bool peers_within(const struct dvk_peers *inner, const struct dvk_peers *outer);
bool privileges_within(const struct dvk_privileges *inner, const struct dvk_privileges *outer);
bool privileges_are_all(const struct dvk_privileges *privileges);

/* May a sender with these send that? kind: enum dvk_slot_flags; message: destination, type and notify as it wrote them. */
bool privileges_allow(const struct dvk_privileges *sender, uint32_t kind, const struct dvk_message *message);
/* May a receiver with these get something from there? */
bool privileges_accept(const struct dvk_privileges *receiver, dvk_endpoint source);
/* May a sender with these have a channel that leads there? */
bool privileges_lead(const struct dvk_privileges *sender, dvk_endpoint to);

/* For people: "all", or "send,notify to servers,100-200 from all". */
void privileges_text(const struct dvk_privileges *privileges, char text[PRIVILEGE_TEXT_MAX]);

#endif
