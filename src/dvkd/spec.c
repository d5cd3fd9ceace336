/* SPDX-License-Identifier: Apache-2.0 */
/* What a DC is to be like: checks that do not depend on the cluster. */
#include "common/cleanup.h"
#include "dvkd/config.h"

#include <errno.h>
#include <string.h>

#define SPEC_STRINGS_MAX 65536u     /* arguments or variables */
#define SPEC_TEXT_MAX (120u << 10)  /* bytes of arguments and variables together: they travel in one packet */
/* within what dvs-cell takes */
#define MEMORY_MIN (16ll << 20)
#define MEMORY_MAX (1ll << 50)
#define CPUS_MIN 0.01
#define CPUS_MAX 4096.0
#define PIDS_MIN 4
#define PIDS_MAX (1 << 20)

static int bad(struct failure *failure, const char *hint, const char *message) {
    return failure_set(failure, -EINVAL, "bad-request", hint, "%s", message);
}

/* Absolute, no "." or ".." parts, no comma (it separates the parts of an option of dvs-cell), not too long. */
static bool path_is_clean(const char *path) {
    if (!path || path[0] != '/' || strlen(path) > 1000 || strchr(path, ',') || strchr(path, '\n'))
        return false;
    for (const char *part = path; part; part = strchr(part, '/')) {
        part++;
        size_t len = strcspn(part, "/");
        if ((len == 1 && part[0] == '.') || (len == 2 && part[0] == '.' && part[1] == '.'))
            return false;
    }
    return true;
}

static int check_place(const char *place, struct failure *failure) {
    if (strcmp(place, "local") == 0 || strcmp(place, "spread") == 0 || strcmp(place, "balance") == 0)
        return 0;
    if (strncmp(place, "node=", 5) == 0 && config_name_is_valid(place + 5))
        return 0;
    return bad(failure, "it is local, spread, balance or node=NAME", "the placement policy is not valid");
}

static int check_mounts(const json_t *mounts, struct failure *failure) {
    if (!json_is_array(mounts) || json_array_size(mounts) > CONFIG_MOUNTS_MAX)
        return bad(failure, "a container has at most 32 volumes", "the list of volumes is not valid");
    size_t i;
    const json_t *mount;
    json_array_foreach(mounts, i, mount) {
        const char *node = field_string(mount, "node");
        if (!path_is_clean(field_string(mount, "host")) || !path_is_clean(field_string(mount, "path")) ||
            strcmp(field_string(mount, "path"), "/") == 0 || !node || !config_name_is_valid(node))
            return bad(failure, "a volume is HOSTDIR@NODE:/PATH[:ro]; paths are absolute, without .. and commas",
                       "a volume is not valid");
    }
    return 0;
}

static int check_range(const json_t *spec, const char *key, double min, double max, bool whole, const char *range,
                       struct failure *failure) {
    const json_t *value = json_object_get(spec, key);
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_number(value) || (whole && !json_is_integer(value)))
        return failure_set(failure, -EINVAL, "bad-request", range, "%s is not a number", key);
    if (!(json_number_value(value) >= min && json_number_value(value) <= max))
        return failure_set(failure, -ERANGE, "limit-out-of-range", range, "%s is out of range", key);
    return 0;
}

static int check_strings(const json_t *argv, const json_t *env, struct failure *failure) {
    if (!json_is_strings(argv) || json_array_size(argv) == 0)
        return bad(failure, "dvs run ... -- COMMAND [ARGUMENT...]", "there is no command to run");
    if (*json_string_value(json_array_get(argv, 0)) == 0)
        return bad(failure, NULL, "the command is empty");
    if (env && !json_is_null(env) && !json_is_strings(env))
        return bad(failure, NULL, "the environment is not a list of strings");
    size_t text = 0, i;
    const json_t *item;
    json_array_foreach(argv, i, item) text += json_string_length(item) + 8;
    json_array_foreach(env, i, item) {
        const char *equals = strchr(json_string_value(item), '=');
        if (!equals || equals == json_string_value(item))
            return bad(failure, "-e NAME=VALUE", "a variable of the environment has no name or no value");
        text += json_string_length(item) + 8;
    }
    if (json_array_size(argv) > SPEC_STRINGS_MAX || json_array_size(env) > SPEC_STRINGS_MAX || text > SPEC_TEXT_MAX)
        return bad(failure, "at most 120 KiB in all", "the command and its environment are too long");
    return 0;
}

int config_check_spec(const json_t *spec, struct failure *failure) {
    if (field_true(spec, "bare"))
        return json_object_size(spec) == 1
                   ? 0
                   : bad(failure, NULL, "a container without a VOS has no image, command or limits");
    const char *image = field_string(spec, "image"), *place = field_string(spec, "place");
    const json_t *cwd = json_object_get(spec, "cwd"), *mounts = json_object_get(spec, "mounts");
    if (!json_is_object(spec))
        return bad(failure, NULL, "there is no description of the container");
    if (!image || (strcmp(image, "host") != 0 && !path_is_clean(image)))
        return bad(failure, "it is host, or a directory's absolute path", "the image is not valid");
    int result = place ? check_place(place, failure) : bad(failure, NULL, "there is no placement policy");
    if (result == 0 && mounts && !json_is_null(mounts))
        result = check_mounts(mounts, failure);
    if (result == 0)
        result = check_range(spec, "memory", (double)MEMORY_MIN, (double)MEMORY_MAX, true, "16 MiB to 1 PiB", failure);
    if (result == 0)
        result = check_range(spec, "cpus", CPUS_MIN, CPUS_MAX, false, "0.01 to 4096", failure);
    if (result == 0)
        result = check_range(spec, "pids", PIDS_MIN, PIDS_MAX, true, "4 to 1048576", failure);
    if (result == 0)
        result = check_strings(json_object_get(spec, "argv"), json_object_get(spec, "env"), failure);
    if (result == 0 && cwd && !json_is_null(cwd) && (!json_is_string(cwd) || *json_string_value(cwd) != '/'))
        result = bad(failure, NULL, "the working directory is not an absolute path");
    return result;
}
