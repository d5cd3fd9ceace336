/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What dvkd asks of the processes of this cell (src/dvkd/README.md): start, ps, kill, resize; and what it is told: "exited".
 *
 * start makes a process without a parent: endpoint, record (own session and group), its state at fs, for a terminal the tty, an exec
 * image with the standard descriptors; then the zygote clones it, or, when the DC's policy names another node, it is
 * handed to that node's pm. dvkd is answered when the program runs or could not be loaded.
 */
#include "common/json.h"
#include "common/log.h"
#include "vos/pm/host.h"
#include "vos/pm/image.h"
#include "vos/pm/pm.h"
#include "vos/tty/tty.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/.dvs/bin"

void control_reply(struct pm *pm, uint64_t id, json_t *answer) {
    char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    if (dvk_control_reply(pm->vos->dvk, id, text ? text : "{\"errno\":12}") < 0)
        log_warning("dvkd could not be answered");
    free(text);
    json_decref(answer);
}

void control_error(struct pm *pm, uint64_t id, int error) { control_reply(pm, id, json_pack("{s:i}", "errno", error)); }

/* ---- start ---- */

struct start {
    struct pm *pm;
    uint64_t id;
    json_t *request;
    int fds[3];
    unsigned fd_count;
    bool tty;
    uint32_t tty_number;
    uint32_t pid;
    uint64_t serial;
    uint32_t node; /* where it is to run */
    unsigned adopted; /* descriptors that fs has made handles of */
    int64_t handles[3];
};

static void start_free(struct start *start) {
    for (unsigned i = 0; i < start->fd_count; i++)
        fd_close(&start->fds[i]);
    json_decref(start->request);
    free(start);
}

static struct process *starting(const struct start *start) { return process_by_serial(start->pm, start->pid, start->serial); }

static void drop_tty(struct pm *pm, uint32_t number) {
    struct dvk_message message = {.type = TTY_S_DROP};
    message.payload.words[0] = number;
    if (number)
        pm_call_local(pm, DVK_SERVICE_TTY, &message, NULL, 0, NULL, 0, pm_ignore_done, NULL);
}

static void start_drop(struct start *start) {
    struct pm *pm = start->pm;
    struct process *process = starting(start);
    struct child *child = process ? child_find(pm, pm->init, process->pid) : NULL;
    if (child)
        child->start_id = 0; /* answered here */
    drop_tty(pm, start->tty_number);
    if (child)
        child_remove(pm, child);
    if (process)
        exit_make_orphan(pm, process);
    if (process)
        exit_process(pm, process, SIGKILL, NULL);
    start_free(start);
}

static void start_fail(struct start *start, int error) {
    control_error(start->pm, start->id, error);
    start_drop(start);
}

/* The environment: what the request gives, after defaults for what it does not. NULL-terminated; NULL: no memory. */
static char **environment(const struct start *start) {
    const json_t *given = json_object_get(start->request, "env");
    char hostname[96], dc[96];
    snprintf(hostname, sizeof(hostname), "HOSTNAME=%s", start->pm->vos->dc_name);
    snprintf(dc, sizeof(dc), "DVS_DC=%s", start->pm->vos->dc_name);
    const char *defaults[] = {"PATH=" DEFAULT_PATH, "HOME=/root", hostname, dc, start->tty ? "TERM=xterm" : NULL};
    size_t count = json_array_size(given);
    char **env = calloc(count + 6, sizeof(*env));
    if (!env)
        return NULL;
    size_t used = 0;
    for (size_t i = 0; i < 5; i++) {
        if (!defaults[i])
            continue;
        size_t name = strcspn(defaults[i], "=") + 1;
        bool present = false;
        for (size_t k = 0; k < count && !present; k++)
            present = strncmp(json_string_value(json_array_get(given, k)), defaults[i], name) == 0;
        if (!present && (env[used] = strdup(defaults[i])))
            used++;
    }
    for (size_t k = 0; k < count; k++)
        if ((env[used] = strdup(json_string_value(json_array_get(given, k)))))
            used++;
    return env;
}

static void strings_free(char **strings) {
    for (size_t i = 0; strings && strings[i]; i++)
        free(strings[i]);
    free(strings);
}

static unsigned image_fds(const struct start *start, struct vos_image_fd fds[3]) {
    static const uint32_t pipe_flags[3] = {O_RDONLY, O_WRONLY, O_WRONLY};
    for (uint32_t i = 0; i < 3; i++)
        fds[i] = (struct vos_image_fd){.vfd = (int32_t)i, .status_flags = start->tty ? O_RDWR : pipe_flags[i],
                                       .object = start->tty ? FS_KIND_TTY : FS_KIND_PIPE};
    if (start->tty) {
        fds[0].kind = VOS_IMAGE_FD_HANDLE;
        fds[0].handle = start->handles[0];
        fds[1].kind = fds[2].kind = VOS_IMAGE_FD_DUP;
        return 3;
    }
    for (uint32_t i = 0; i < start->fd_count; i++) {
        bool handle = start->adopted > i;
        fds[i].kind = handle ? VOS_IMAGE_FD_HANDLE : VOS_IMAGE_FD_HOST;
        fds[i].handle = handle ? start->handles[i] : 0;
        fds[i].source = i;
    }
    return start->fd_count;
}

static int start_image(struct start *start, struct process *process) {
    const json_t *args = json_object_get(start->request, "argv");
    size_t argc = json_array_size(args);
    char **env = environment(start);
    char **argv = calloc(argc + 1, sizeof(*argv));
    struct vos_image_fd fds[3];
    unsigned fd_count = image_fds(start, fds);
    void *bytes = NULL;
    int result = -ENOMEM;
    for (size_t i = 0; argv && i < argc; i++)
        argv[i] = strdup(json_string_value(json_array_get(args, i)));
    if (env && argv && argv[0]) {
        result = image_write(argv[0], argv, env, process->umask, fds, fd_count, &bytes, &process->image.len);
        process->image.bytes = bytes;
        process->image.total = process->image.len;
        snprintf(process->comm, sizeof(process->comm), "%s", strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0]);
    }
    strings_free(env);
    strings_free(argv);
    if (result == 0 && !start->tty && !start->adopted && start->fd_count) {
        process->image.fds = malloc(start->fd_count * sizeof(int));
        if (!process->image.fds)
            return -ENOMEM;
        for (unsigned i = 0; i < start->fd_count; i++) {
            process->image.fds[process->image.fd_count++] = start->fds[i];
            start->fds[i] = -1;
        }
    }
    return result;
}

/* fs and tty know it: off it goes. */
static void start_go(struct start *start) {
    struct pm *pm = start->pm;
    struct process *process = starting(start);
    int result = process ? start_image(start, process) : -ESRCH;
    if (result < 0) {
        start_fail(start, -result);
        return;
    }
    struct child *child = child_find(pm, pm->init, process->pid);
    if (child)
        child->tty = start->tty_number;
    process->place_node = start->node;
    if (start->node != pm->vos->node)
        move_start(pm, process);
    else
        spawn_queue(pm, process);
    start_free(start);
}

static void start_adopt(struct start *start);

static void start_adopted(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                          unsigned fd_count) {
    struct start *start = context;
    pm_close_fds(fds, fd_count);
    if (status < 0 || reply->status < 0) {
        if (start->adopted == 0) { /* fs cannot: it starts here, with its host descriptors */
            log_warning("the first program of %s starts on this node: its descriptors cannot be handed over", start->pm->vos->dc_name);
            start->node = start->pm->vos->node;
            start_go(start);
        } else {
            start_fail(start, EIO);
        }
        return;
    }
    start->handles[start->adopted++] = (int64_t)reply->payload.words[0];
    start_adopt(start);
}

/* Runs elsewhere: its pipes become handles, one after the other. */
static void start_adopt(struct start *start) {
    if (start->tty || start->node == start->pm->vos->node || start->adopted == start->fd_count) {
        start_go(start);
        return;
    }
    struct dvk_message message = {.type = FS_S_ADOPT};
    message.payload.words[0] = start->pid;
    message.payload.words[1] = FS_KIND_PIPE;
    message.payload.words[2] = start->adopted == 0 ? O_RDONLY : O_WRONLY;
    int fd = fcntl(start->fds[start->adopted], F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
        start_fail(start, EMFILE);
        return;
    }
    if (pm_call_local(start->pm, DVK_SERVICE_FS, &message, NULL, 0, &fd, 1, start_adopted, start) < 0)
        start_fail(start, EIO);
}

static void start_tty_given(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                            unsigned fd_count) {
    struct start *start = context;
    pm_close_fds(fds, fd_count);
    if (status < 0 || reply->status < 0) {
        start_fail(start, EIO);
        return;
    }
    start->handles[0] = (int64_t)reply->payload.words[0];
    start_go(start);
}

static void start_tty_made(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                           unsigned fd_count) {
    struct start *start = context;
    pm_close_fds(fds, fd_count);
    if (status < 0 || reply->status < 0) {
        start_fail(start, EIO);
        return;
    }
    start->tty_number = (uint32_t)reply->payload.words[0];
    struct dvk_message message = {.type = FS_S_TTY};
    message.payload.words[0] = start->pid;
    message.payload.words[1] = start->tty_number;
    if (pm_call_local(start->pm, DVK_SERVICE_FS, &message, NULL, 0, NULL, 0, start_tty_given, start) < 0)
        start_fail(start, EIO);
}

static void start_known(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                        unsigned fd_count) {
    struct start *start = context;
    pm_close_fds(fds, fd_count);
    if (status < 0 || reply->status < 0) {
        start_fail(start, status < 0 ? EIO : -reply->status);
        return;
    }
    if (!start->tty) {
        start_adopt(start);
        return;
    }
    struct dvk_message message = {.type = TTY_S_CREATE};
    message.payload.words[0] = (uint64_t)field_integer_or(start->request, "rows", 0, 65535, 24);
    message.payload.words[1] = (uint64_t)field_integer_or(start->request, "cols", 0, 65535, 80);
    message.payload.words[2] = start->pid;
    message.payload.words[3] = start->pid;
    int fd = start->fds[0];
    start->fds[0] = -1;
    if (pm_call_local(start->pm, DVK_SERVICE_TTY, &message, NULL, 0, &fd, 1, start_tty_made, start) < 0)
        start_fail(start, EIO);
}

static void start_created(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                          unsigned fd_count) {
    struct start *start = context;
    struct process *process = starting(start);
    pm_close_fds(fds, fd_count);
    if (status < 0 || !process) {
        start_fail(start, EIO);
    } else if (reply->status < 0) {
        control_reply(start->pm, start->id, json_pack("{s:i, s:b}", "errno", -reply->status, "cwd", 1));
        start_drop(start);
    } else if (exec_tell_fs(start->pm, process, start_known, start) < 0)
        start_fail(start, EIO);
}

static int start_record(struct start *start, const struct spare *spare) {
    struct pm *pm = start->pm;
    struct process *process = process_create(pm, dvk_endpoint_slot(spare->endpoint));
    if (!process)
        return -ENOMEM;
    process->endpoint = process->birth = spare->endpoint;
    process->channel_fd = spare->channel_fd;
    process->socket_fd = spare->socket_fd;
    process->state = PROCESS_BINDING;
    process->ppid = PM_INIT_PID;
    process->parent_node = pm->vos->node;
    process->pgid = process->sid = process->pid;
    uint32_t uid = (uint32_t)field_integer_or(start->request, "uid", 0, 65535, 0);
    uint32_t gid = (uint32_t)field_integer_or(start->request, "gid", 0, 65535, 0);
    process->creds = (struct creds){uid, uid, uid, uid, gid, gid, gid, gid, 0, NULL};
    process->announce_start = process->placed = process->execed = true;
    start->pid = process->pid;
    start->serial = process->serial;
    struct child *child = child_add(pm, pm->init, process->pid);
    if (!child)
        return -ENOMEM;
    child->pgid = child->sid = process->pid;
    child->uid = uid;
    child->exit_signal = SIGCHLD;
    child->start_id = start->id;
    return 0;
}

static void start_have_spare(struct pm *pm, void *context, int status, struct spare *spare) {
    struct start *start = context;
    int result = status < 0 ? status : start_record(start, spare);
    if (status == 0 && result < 0 && !start->pid)
        spare_return(pm, spare);
    if (result < 0) {
        start_fail(start, -result);
        return;
    }
    const char *cwd = field_string(start->request, "cwd");
    if (!cwd || !*cwd)
        cwd = "/";
    size_t len = strnlen(cwd, VOS_PATH_MAX) + 1; /* fs refuses one that is too long */
    struct dvk_message message = {.type = FS_S_START};
    message.payload.words[0] = start->pid;
    if (pm_call_local(pm, DVK_SERVICE_FS, &message, cwd, len, NULL, 0, start_created, start) < 0)
        start_fail(start, EIO);
}

static bool start_is_valid(const json_t *request) {
    const json_t *argv = json_object_get(request, "argv"), *env = json_object_get(request, "env");
    return json_is_strings(argv) && json_array_size(argv) > 0 && json_string_value(json_array_get(argv, 0))[0] &&
           (!env || json_is_null(env) || json_is_strings(env));
}

static void control_start(struct pm *pm, json_t *request, const struct dvk_event *event) {
    struct start *start = calloc(1, sizeof(*start));
    bool tty = field_true(request, "tty");
    if (!start || !start_is_valid(request) || event->fd_count != (tty ? 1u : 3u)) {
        pm_close_fds(event->fds, event->fd_count);
        control_error(pm, event->id, start ? EINVAL : ENOMEM);
        free(start);
        return;
    }
    *start = (struct start){.pm = pm, .id = event->id, .request = json_incref(request), .fd_count = event->fd_count, .tty = tty,
                            .node = pm->vos->node};
    for (unsigned i = 0; i < event->fd_count; i++)
        start->fds[i] = event->fds[i];
    struct place_policy policy;
    if (place_parse(pm->vos, pm->vos->place, &policy) && policy.kind == PLACE_NODE)
        start->node = place_choose(pm, &policy);
    spare_take(pm, start_have_spare, start);
}

void control_started(struct pm *pm, struct child *child, int error) {
    uint64_t id = child->start_id;
    if (!id)
        return;
    child->start_id = 0;
    if (error) {
        drop_tty(pm, child->tty);
        control_error(pm, id, error);
        child->exit_signal = 0; /* its end is no news any more */
        return;
    }
    control_reply(pm, id, json_pack("{s:i}", "pid", (int)child->pid));
}

void control_exited(struct pm *pm, struct child *child, int status) {
    if (child->start_id) { /* it never ran */
        control_started(pm, child, WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL ? ENOEXEC : EIO);
        return;
    }
    if (child->exit_signal == 0)
        return;
    char text[96];
    snprintf(text, sizeof(text), "{\"event\":\"exited\",\"pid\":%u,\"status\":%d}", child->pid, status);
    if (dvk_control_send(pm->vos->dvk, text) < 0)
        log_warning("dvkd could not be told that %u has ended", child->pid);
}

/* ---- kill, resize ---- */

struct control_call {
    struct pm *pm;
    uint64_t id;
    uint32_t rows, cols;
};

static void kill_done(void *context, int status) {
    struct control_call *call = context;
    if (status < 0)
        control_error(call->pm, call->id, -status);
    else
        control_reply(call->pm, call->id, json_object());
    free(call);
}

static void control_kill(struct pm *pm, const json_t *request, const struct dvk_event *event) {
    json_int_t pid = field_integer_or(request, "pid", 0, INT32_MAX, 0);
    json_int_t sig = field_integer_or(request, "signal", 0, 64, -1);
    struct control_call *call = calloc(1, sizeof(*call));
    if (!call || sig < 0) {
        control_error(pm, event->id, call ? EINVAL : ENOMEM);
        free(call);
        return;
    }
    *call = (struct control_call){pm, event->id, 0, 0};
    signal_system(pm, (uint32_t)pid, 0, (int)sig, kill_done, call);
}

static void resized(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                    unsigned fd_count) {
    pm_close_fds(fds, fd_count);
    kill_done(context, status < 0 ? -EIO : reply->status);
}

static void resize_found(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                         unsigned fd_count) {
    struct control_call *call = context;
    pm_close_fds(fds, fd_count);
    if (status < 0 || reply->status < 0) {
        kill_done(call, status < 0 ? -EIO : reply->status);
        return;
    }
    struct dvk_message message = {.type = TTY_S_RESIZE, .destination = tty_server_endpoint((uint32_t)reply->payload.words[0])};
    message.payload.words[0] = reply->payload.words[0];
    message.payload.words[1] = call->rows;
    message.payload.words[2] = call->cols;
    if (dvk_call(call->pm->vos->dvk, call->pm->vos->self[DVK_SERVICE_PM], &message, NULL, 0, NULL, 0, resized, call, NULL) < 0)
        kill_done(call, -EIO);
}

static void control_resize(struct pm *pm, const json_t *request, const struct dvk_event *event) {
    uint32_t pid = (uint32_t)field_integer_or(request, "pid", 0, INT32_MAX, 0);
    struct control_call *call = calloc(1, sizeof(*call));
    if (!call) {
        control_error(pm, event->id, ENOMEM);
        return;
    }
    *call = (struct control_call){pm, event->id, (uint32_t)field_integer_or(request, "rows", 1, 65535, 24),
                                  (uint32_t)field_integer_or(request, "cols", 1, 65535, 80)};
    struct process *process = process_here(pm, pid);
    struct dvk_message message = {.type = TTY_S_FIND};
    message.payload.words[0] = process ? process->sid : pid; /* a started program led its session when it began */
    if (pm_call_local(pm, DVK_SERVICE_TTY, &message, NULL, 0, NULL, 0, resize_found, call) < 0)
        kill_done(call, -EIO);
}

bool control_handle(struct pm *pm, const char *op, const struct dvk_event *event) {
    static const struct {
        const char *op;
        bool takes_fds;
    } ops[] = {{"start", true}, {"ps", false}, {"kill", false}, {"resize", false}};
    size_t which = 0;
    while (which < 4 && strcmp(op, ops[which].op) != 0)
        which++;
    if (which == 4)
        return false;
    cleanup_json json_t *request = json_loads(event->text, 0, NULL);
    if (!ops[which].takes_fds || !request)
        pm_close_fds(event->fds, event->fd_count);
    if (!request)
        control_error(pm, event->id, EINVAL);
    else if (which == 0)
        control_start(pm, request, event);
    else if (which == 1)
        ps_start(pm, event->id, field_true(request, "all"));
    else if (which == 2)
        control_kill(pm, request, event);
    else
        control_resize(pm, request, event);
    return true;
}
