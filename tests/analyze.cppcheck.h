/* SPDX-License-Identifier: Apache-2.0 */
/* For cppcheck, which does not read jansson's headers: its macros that look like statements. */
#define json_array_foreach(array, i, value) for ((i) = 0; ((value) = json_array_get(array, i)); (i)++)
#define json_object_foreach(object, key, value) while ((value) = json_object_next(object, &(key)))
