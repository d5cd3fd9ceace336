/* SPDX-License-Identifier: Apache-2.0 */
/* dvs run and dvs exec: start a program, and stay with it. */
#include "common/cleanup.h"
#include "dvs/attach.h"
#include "dvs/dvs.h"
#include "dvs/terminal.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum {
    OPTION_IMAGE = OPTION_OWN,
    OPTION_NAME,
    OPTION_NODES,
    OPTION_PLACE,
    OPTION_MEMORY,
    OPTION_CPUS,
    OPTION_PIDS,
    OPTION_RM,
    OPTION_STRICT
};

struct program {
    json_t *request;
    json_t *env; /* object, so that the last one wins */
    bool interactive, tty, detach;
};

static void program_free(struct program *program) {
    json_decref(program->request);
    json_decref(program->env);
}

static int program_init(struct program *program, const char *op) {
    *program = (struct program){.request = json_pack("{s:s}", "op", op), .env = json_object()};
    if (!program->request || !program->env)
        return -ENOMEM;
    return 0;
}

/* ---- options that run and exec share ---- */

static bool env_add(struct program *program, const char *text) {
    const char *equals = strchr(text, '=');
    if (equals == text || !*text)
        return false;
    if (!equals) {
        const char *value = getenv(text);
        return !value || json_object_set_new(program->env, text, json_string(value)) == 0;
    }
    cleanup_free char *key = strndup(text, (size_t)(equals - text));
    return key && json_object_set_new(program->env, key, json_string(equals + 1)) == 0;
}

/* One option of those; true if it was. *exit_code is not 0 if it was wrong. */
static bool shared_option(struct command *command, struct program *program, int option, int *exit_code) {
    switch (option) {
    case 'i':
        program->interactive = true;
        return true;
    case 't':
        program->tty = true;
        return true;
    case 'd':
        program->detach = true;
        return true;
    case 'e':
        if (!env_add(program, optarg))
            *exit_code = usage_error(command, "-e %s: want NAME=VALUE in UTF-8", optarg);
        return true;
    case 'w':
        if (optarg[0] != '/')
            *exit_code = usage_error(command, "-w %s: want an absolute path", optarg);
        else
            json_object_set_new(program->request, "cwd", json_string(optarg));
        return true;
    default:
        return false;
    }
}

/* What remains: argv, environment and terminal into the request. */
static int program_finish(struct command *command, struct program *program, char **argv) {
    json_t *args = json_array(), *env = json_array();
    int result = 0;
    for (; *argv && result == 0; argv++)
        result = json_array_append_new(args, json_string(*argv));
    const char *key;
    json_t *value;
    if (program->tty && !json_object_get(program->env, "TERM") && !env_add(program, "TERM"))
        result = -1;
    json_object_foreach(program->env, key, value) {
        cleanup_free char *pair = NULL;
        if (asprintf(&pair, "%s=%s", key, json_string_value(value)) < 0 ||
            json_array_append_new(env, json_string(pair)) < 0)
            result = -1;
    }
    int rows = 0, cols = 0;
    if (program->tty)
        terminal_size(&rows, &cols);
    if (json_object_set_new(program->request, "argv", args) < 0 ||
        json_object_set_new(program->request, "env", env) < 0 ||
        json_object_set_new(program->request, "tty", json_boolean(program->tty)) < 0 ||
        json_object_set_new(program->request, "rows", json_integer(rows)) < 0 ||
        json_object_set_new(program->request, "cols", json_integer(cols)) < 0 ||
        json_object_set_new(program->request, "detach", json_boolean(program->detach)) < 0)
        result = -1;
    return result == 0 ? 0 : usage_error(command, "an argument is not UTF-8 text");
}

/* Send it, and carry the streams. dc: NULL if the answer tells the name. */
static int program_start(struct command *command, struct program *program, const char *dc) {
    struct client client = CLIENT_INIT;
    struct attach attach = {.ours = {-1, -1, -1}, .theirs = {-1, -1, -1}};
    cleanup_json json_t *answer = NULL;
    int result = program->detach ? 0 : attach_create(&attach, program->tty, program->interactive, &command->failure);
    if (result == 0)
        result = client_request(&command->target, json_incref(program->request), attach.theirs,
                                program->detach ? 0 : attach_fd_count(&attach), CLIENT_CHANGE_MS, &client, &answer,
                                &command->failure);
    int exit_code;
    if (result < 0) {
        exit_code = failure_report(command);
        if (exit_code == EXIT_FAILED)
            exit_code = EXIT_DVS_TROUBLE;
    } else {
        json_int_t pid = field_integer_or(answer, "pid", 0, INT32_MAX, 0);
        const char *name = field_string(answer, "name");
        if (program->detach && dc)
            exit_code = printf("%" JSON_INTEGER_FORMAT "\n", pid) > 0 ? EXIT_OK : EXIT_FAILED;
        else if (program->detach)
            exit_code = puts(name ? name : "?") >= 0 ? EXIT_OK : EXIT_FAILED;
        else
            exit_code = attach_run(command, &attach, &client, dc ? dc : name ? name : "", pid);
    }
    attach_close(&attach);
    client_close(&client);
    return exit_code;
}

/* ---- run ---- */

/* A host path, made absolute. */
static char *path_absolute(const char *path) {
    char *absolute = NULL;
    if (path[0] == '/')
        return strdup(path);
    cleanup_free char *here = get_current_dir_name();
    return here && asprintf(&absolute, "%s/%s", here, path) >= 0 ? absolute : NULL;
}

/* host, or a directory, which the nodes see under the same path. */
static int image_set(struct program *program, const char *image) {
    if (strcmp(image, "host") == 0)
        return json_object_set_new(program->request, "image", json_string(image));
    cleanup_free char *path = path_absolute(image);
    char resolved[PATH_MAX];
    return path
               ? json_object_set_new(program->request, "image", json_string(realpath(path, resolved) ? resolved : path))
               : -1;
}

static int nodes_set(struct program *program, const char *list) {
    cleanup_free char *copy = strdup(list);
    json_t *nodes = json_array();
    char *rest = copy;
    for (char *name; copy && (name = strsep(&rest, ","));) {
        if (!*name || json_array_append_new(nodes, json_string(name)) < 0) {
            json_decref(nodes);
            return -1;
        }
    }
    return json_object_set_new(program->request, "nodes", nodes);
}

/* HOSTDIR[@NODE]:PATH[:ro] */
static int volume_add(struct program *program, const char *text) {
    cleanup_free char *copy = strdup(text);
    char *colon = copy ? strchr(copy, ':') : NULL;
    if (!colon || colon == copy)
        return -1;
    *colon = '\0';
    char *inside = colon + 1, *mode = strchr(inside, ':');
    if (mode)
        *mode++ = '\0';
    if (inside[0] != '/' || (mode && strcmp(mode, "ro") != 0 && strcmp(mode, "rw") != 0))
        return -1;
    char *node = strrchr(copy, '@');
    if (node)
        *node++ = '\0';
    if (!*copy || (node && !*node))
        return -1;
    cleanup_free char *host = path_absolute(copy);
    json_t *mounts = json_object_get(program->request, "mounts");
    json_t *mount = json_pack("{s:s, s:s, s:b}", "host", host, "path", inside, "ro", mode && strcmp(mode, "ro") == 0);
    if (mount && node)
        json_object_set_new(mount, "node", json_string(node));
    return mount ? json_array_append_new(mounts, mount) : -1;
}

/* A volume without a node is on the node that is asked. */
static int volumes_complete(struct command *command, struct program *program) {
    const json_t *mounts = json_object_get(program->request, "mounts");
    char *name = NULL;
    int result = 0;
    for (size_t i = 0; i < json_array_size(mounts) && result == 0; i++) {
        json_t *mount = json_array_get(mounts, i);
        if (json_object_get(mount, "node"))
            continue;
        if (!name) {
            cleanup_json json_t *answer = NULL;
            result = client_ask(&command->target, json_pack("{s:s}", "op", "version"), CLIENT_LOOK_MS, &answer,
                                &command->failure);
            if (result < 0)
                break;
            name = strdup(field_string(answer, "node") ? field_string(answer, "node") : "");
        }
        json_object_set_new(mount, "node", json_string(name ? name : ""));
    }
    free(name);
    return result;
}

/* One option of run's own; 0 or the exit code of a usage error. */
static int run_option(struct command *command, struct program *program, int option) {
    json_t *request = program->request;
    long long number;
    char *end;
    switch (option) {
    case OPTION_IMAGE:
        return *optarg && image_set(program, optarg) == 0
                   ? 0
                   : usage_error(command, "--image %s: not a path in UTF-8", optarg);
    case OPTION_NAME:
        return *optarg && json_object_set_new(request, "name", json_string(optarg)) == 0
                   ? 0
                   : usage_error(command, "--name is empty or not UTF-8");
    case OPTION_NODES:
        return nodes_set(program, optarg) == 0
                   ? 0
                   : usage_error(command, "--nodes %s: want names with commas between", optarg);
    case OPTION_PLACE:
        if (strcmp(optarg, "local") != 0 && strcmp(optarg, "spread") != 0 && strcmp(optarg, "balance") != 0 &&
            (strncmp(optarg, "node=", 5) != 0 || !optarg[5]))
            return usage_error(command, "--place %s: want local, spread, balance or node=NAME", optarg);
        json_object_set_new(request, "place", json_string(optarg));
        return 0;
    case 'v':
        return volume_add(program, optarg) == 0 ? 0
                                                : usage_error(command, "-v %s: want HOSTDIR[@NODE]:/PATH[:ro]", optarg);
    case OPTION_MEMORY:
        if (!parse_size(optarg, &number) || number <= 0)
            return usage_error(command, "--memory %s: want a size such as 512m or 2g", optarg);
        json_object_set_new(request, "memory", json_integer(number));
        return 0;
    case OPTION_CPUS: {
        errno = 0;
        double cpus = strtod(optarg, &end);
        if (errno || *end || end == optarg || !(cpus > 0) || cpus > 1e6)
            return usage_error(command, "--cpus %s: want a number above 0, such as 1.5", optarg);
        json_object_set_new(request, "cpus", json_real(cpus));
        return 0;
    }
    case OPTION_PIDS:
        if (!parse_number(optarg, 1, INT32_MAX, &number))
            return usage_error(command, "--pids %s: want a number above 0", optarg);
        json_object_set_new(request, "pids", json_integer(number));
        return 0;
    case OPTION_RM:
        json_object_set_new(request, "rm", json_true());
        return 0;
    case OPTION_STRICT:
        json_object_set_new(request, "strict", json_true());
        return 0;
    default:
        return EXIT_USAGE;
    }
}

static int run_main(struct command *command, struct program *program, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS,
                                            {"image", required_argument, NULL, OPTION_IMAGE},
                                            {"name", required_argument, NULL, OPTION_NAME},
                                            {"nodes", required_argument, NULL, OPTION_NODES},
                                            {"place", required_argument, NULL, OPTION_PLACE},
                                            {"interactive", no_argument, NULL, 'i'},
                                            {"tty", no_argument, NULL, 't'},
                                            {"detach", no_argument, NULL, 'd'},
                                            {"env", required_argument, NULL, 'e'},
                                            {"volume", required_argument, NULL, 'v'},
                                            {"workdir", required_argument, NULL, 'w'},
                                            {"memory", required_argument, NULL, OPTION_MEMORY},
                                            {"cpus", required_argument, NULL, OPTION_CPUS},
                                            {"pids", required_argument, NULL, OPTION_PIDS},
                                            {"rm", no_argument, NULL, OPTION_RM},
                                            {"strict", no_argument, NULL, OPTION_STRICT},
                                            {0}};
    int exit_code = EXIT_OK, option;
    json_object_set_new(program->request, "place", json_string("spread"));
    json_object_set_new(program->request, "rm", json_false());
    json_object_set_new(program->request, "mounts", json_array());
    while ((option = option_next(command, argc, argv, "+:hitde:v:w:", options, &exit_code)) >= 0) {
        if (!shared_option(command, program, option, &exit_code))
            exit_code = run_option(command, program, option);
        if (exit_code != EXIT_OK)
            return exit_code;
    }
    if (option == OPTIONS_STOP)
        return exit_code;
    if (!json_object_get(program->request, "image"))
        return usage_error(command, "no image; say --image host or --image DIR");
    if (optind == argc)
        return usage_error(command, "no command to run");
    exit_code = program_finish(command, program, argv + optind);
    if (exit_code != EXIT_OK)
        return exit_code;
    if (volumes_complete(command, program) < 0)
        return failure_report(command);
    return program_start(command, program, NULL);
}

int verb_run(struct command *command, int argc, char **argv) {
    struct program program;
    int exit_code = program_init(&program, "dc.run") == 0 ? run_main(command, &program, argc, argv) : EXIT_FAILED;
    program_free(&program);
    return exit_code;
}

/* ---- exec ---- */

static int exec_main(struct command *command, struct program *program, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS,
                                            {"interactive", no_argument, NULL, 'i'},
                                            {"tty", no_argument, NULL, 't'},
                                            {"detach", no_argument, NULL, 'd'},
                                            {"env", required_argument, NULL, 'e'},
                                            {"workdir", required_argument, NULL, 'w'},
                                            {0}};
    int exit_code = EXIT_OK, option;
    while ((option = option_next(command, argc, argv, "+:hitde:w:", options, &exit_code)) >= 0) {
        shared_option(command, program, option, &exit_code);
        if (exit_code != EXIT_OK)
            return exit_code;
    }
    if (option == OPTIONS_STOP)
        return exit_code;
    if (optind == argc)
        return usage_error(command, "no container named");
    const char *dc = argv[optind++];
    if (optind < argc && strcmp(argv[optind], "--") == 0)
        optind++;
    if (optind == argc)
        return usage_error(command, "no command to run in %s", dc);
    if (json_object_set_new(program->request, "dc", json_string(dc)) < 0)
        return usage_error(command, "a container's name is not UTF-8");
    exit_code = program_finish(command, program, argv + optind);
    return exit_code == EXIT_OK ? program_start(command, program, dc) : exit_code;
}

int verb_exec(struct command *command, int argc, char **argv) {
    struct program program;
    int exit_code = program_init(&program, "dc.exec") == 0 ? exec_main(command, &program, argc, argv) : EXIT_FAILED;
    program_free(&program);
    return exit_code;
}
