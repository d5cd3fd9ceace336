/* SPDX-License-Identifier: Apache-2.0 */
/* dvs logs: what a container's first program wrote. */
#include "common/cleanup.h"
#include "dvs/dvs.h"

#include <errno.h>
#include <string.h>

static int stdout_write(const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

int verb_logs(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {"follow", no_argument, NULL, 'f'}, {0}};
    int exit_code = EXIT_OK, option;
    bool follow = false;
    while ((option = option_next(command, argc, argv, ":hf", options, &exit_code)) >= 0)
        follow = true;
    if (option == OPTIONS_STOP)
        return exit_code;
    if (argc - optind != 1)
        return usage_error(command, "name one container");
    struct client client = CLIENT_INIT;
    cleanup_json json_t *answer = NULL;
    long n = client_request(&command->target,
                            json_pack("{s:s, s:s, s:b}", "op", "dc.logs", "dc", argv[optind], "follow", follow), NULL,
                            0, CLIENT_LOOK_MS, &client, &answer, &command->failure);
    if (n < 0) {
        client_close(&client);
        return failure_report(command);
    }
    cleanup_free char *buffer = malloc(65536);
    while (buffer && (n = client_read_raw(&client, buffer, 65536)) > 0 && (n = stdout_write(buffer, (size_t)n)) == 0)
        ;
    client_close(&client);
    if (n < 0)
        failure_set(&command->failure, 0, "internal", NULL, "cannot go on: %s", strerror((int)-n));
    return n < 0 ? failure_report(command) : EXIT_OK;
}
