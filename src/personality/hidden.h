/* SPDX-License-Identifier: Apache-2.0 */
/* Included before everything else when the personality is compiled: all symbols are its own, none is reached through a table. */
#pragma GCC visibility push(hidden)
