/* SPDX-License-Identifier: Apache-2.0 */
#include "dvs/programs.h"

#include "common/cleanup.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

/* What goes into a libexec directory. */
static const char *const program_names[] = {"dvkd", "dvs-cell", "dvs-proxy", "dvs-copier", "dvs-vos", "dvs-personality"};

/* Where they are, as seen from the directory of this program: installed beside us, in the build tree, installed. */
static const char *const places[] = {"",
                                     "../dvkd/",
                                     "../cell/",
                                     "../proxy/",
                                     "../copier/",
                                     "../vos/",
                                     "../vos/host/",
                                     "../personality/",
                                     "../personality/entry/",
                                     "../libexec/dvs/",
                                     "../sbin/"};

static bool is_program(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

int program_find(const char *name, char path[static PATH_MAX], struct failure *failure) {
    char candidate[2 * PATH_MAX], self[PATH_MAX];
    const char *libexec = getenv("DVS_LIBEXEC");
    if (libexec && *libexec) {
        snprintf(candidate, sizeof candidate, "%s/%s", libexec, name);
        if (is_program(candidate) && realpath(candidate, path))
            return 0;
    }
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len > 0) {
        self[len] = '\0';
        self[strrchr(self, '/') - self + 1] = '\0';
        for (size_t i = 0; i < ARRAY_LENGTH(places); i++) {
            snprintf(candidate, sizeof candidate, "%s%s%s", self, places[i], name);
            if (is_program(candidate) && realpath(candidate, path))
                return 0;
        }
    }
    snprintf(candidate, sizeof candidate, "%s/%s", DVS_LIBEXECDIR, name);
    if (is_program(candidate) && realpath(candidate, path))
        return 0;
    return failure_set(failure, -ENOENT, "internal", "build all of DVS, or set DVS_LIBEXEC",
                       "the program %s is missing", name);
}

int programs_link(const char *directory, struct failure *failure) {
    if (mkdir(directory, 0755) < 0)
        return failure_set(failure, -errno, "internal", NULL, "cannot make %s: %s", directory, strerror(errno));
    for (size_t i = 0; i < ARRAY_LENGTH(program_names); i++) {
        char target[PATH_MAX], link[PATH_MAX + 32];
        int result = program_find(program_names[i], target, failure);
        if (result < 0)
            return result;
        snprintf(link, sizeof link, "%s/%s", directory, program_names[i]);
        if (symlink(target, link) < 0)
            return failure_set(failure, -errno, "internal", NULL, "cannot make %s: %s", link, strerror(errno));
    }
    return 0;
}
