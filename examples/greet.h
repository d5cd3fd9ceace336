/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol of greet_server. */
#ifndef GREET_H
#define GREET_H

#define GREET 1u
#define GREET_NAME_MAX 63 /* bytes, and a NUL */

#endif
