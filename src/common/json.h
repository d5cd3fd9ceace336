/* SPDX-License-Identifier: Apache-2.0 */
/* Small helpers over jansson, for reading objects that others wrote. */
#ifndef COMMON_JSON_H
#define COMMON_JSON_H

#include <jansson.h>
#include <stdbool.h>

static inline void cleanup_json_fn(json_t **json) { json_decref(*json); }
#define cleanup_json __attribute__((cleanup(cleanup_json_fn), unused)) /* unused: some only own */

/* The string at key, or NULL when there is none or it is something else. */
static inline const char *field_string(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}
/* The integer at key; false when there is none. */
static inline bool field_integer(const json_t *object, const char *key, json_int_t *out) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
        return false;
    *out = json_integer_value(value);
    return true;
}
/* The integer at key if it lies in min..max, else `otherwise`. */
static inline json_int_t field_integer_or(const json_t *object, const char *key, json_int_t min, json_int_t max,
                                          json_int_t otherwise) {
    json_int_t value;
    return field_integer(object, key, &value) && value >= min && value <= max ? value : otherwise;
}
static inline bool field_true(const json_t *object, const char *key) {
    return json_is_true(json_object_get(object, key));
}
/* Is it an array of strings without NUL? */
static inline bool json_is_strings(const json_t *array) {
    if (!json_is_array(array))
        return false;
    for (size_t i = 0; i < json_array_size(array); i++)
        if (!json_is_string(json_array_get(array, i)))
            return false;
    return true;
}

#endif
