/* SPDX-License-Identifier: Apache-2.0 */
/* What cmocka wants included, in its order. */
#ifndef TESTS_DVKD_CHECK_H
#define TESTS_DVKD_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
