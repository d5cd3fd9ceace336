/* SPDX-License-Identifier: Apache-2.0 */
/* Control requests to cells and the proxy, and what these tell unasked. */
#include "common/cleanup.h"
#include "common/log.h"
#include "dvkd/broker_private.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONTROL_TEXT_MAX (64u << 20) /* of an answer that comes in parts */

struct control {
    struct list link; /* in client.controls */
    struct client *client;
    uint64_t id;
    control_done *done; /* NULL: forgotten */
    void *context;
    struct loop_timer *timer;
    int early; /* not 0: never sent; the error that `done` gets from the timer */
    char *text; /* the parts of the answer that came so far */
    size_t text_len;
};

static void control_end(struct control *control, int status, const json_t *answer) {
    control_done *done = control->done;
    void *context = control->context;
    loop_timer_cancel(control->timer);
    list_remove(&control->link);
    free(control->text);
    free(control);
    if (done)
        done(context, status, answer);
}

static void control_timer_fn(void *context) {
    struct control *control = context;
    control->timer = NULL;
    control_end(control, control->early ? control->early : -DVK_ETIMEDOUT, NULL);
}

void broker_control(struct client *client, const json_t *request, const int *fds, unsigned fd_count,
                    uint64_t timeout_ms, control_done *done, void *context, uint64_t *id) {
    cleanup_free char *text = json_dumps(request, JSON_COMPACT);
    struct control *control = calloc(1, sizeof *control);
    if (!text || !control) {
        /* there is no way to go on from here without the memory to remember that `done` is owed */
        log_error("out of memory");
        abort();
    }
    size_t len = strlen(text);
    *control = (struct control){
        .client = client, .id = ++client->broker->last_control, .done = done, .context = context};
    if (len > DVK_BROKER_TEXT_MAX) {
        control->early = -E2BIG;
        timeout_ms = 1;
    }
    list_append(&client->controls, &control->link);
    if (id)
        *id = control->id;
    if (timeout_ms && loop_timer_add(client->broker->loop, timeout_ms, control_timer_fn, control, &control->timer) < 0)
        log_error("no memory for a time limit");
    if (!control->early) {
        struct dvk_broker_packet packet = {.type = DVK_BROKER_CONTROL, .id = control->id, .text_len = (uint32_t)len};
        client_send(client, &packet, text, fds, fd_count);
    }
    for (unsigned i = 0; i < fd_count; i++)
        close(fds[i]);
}

static struct control *control_find(struct client *client, uint64_t id) {
    struct control *control;
    list_for_each(control, &client->controls, link) if (control->id == id) return control;
    return NULL;
}

void broker_control_forget(struct client *client, uint64_t id) {
    struct control *control = control_find(client, id);
    if (control)
        control->done = NULL;
}

void broker_control_reply(struct client *client, const struct dvk_broker_packet *packet, const char *text) {
    struct control *control = control_find(client, packet->id);
    if (!control)
        return; /* it timed out */
    if (control->text_len + packet->text_len > CONTROL_TEXT_MAX) {
        client_violation(client, "a control answer is too long");
        return;
    }
    char *joined = realloc(control->text, control->text_len + packet->text_len + 1);
    if (!joined) {
        control_end(control, -ENOMEM, NULL);
        return;
    }
    memcpy(joined + control->text_len, text, packet->text_len);
    control->text = joined;
    control->text_len += packet->text_len;
    if (packet->flags & DVK_BROKER_F_MORE)
        return;
    json_error_t error;
    cleanup_json json_t *answer = json_loadb(control->text, control->text_len, 0, &error);
    if (!json_is_object(answer)) {
        log_warning("a cell's answer is not JSON: %s", error.text);
        control_end(control, -DVK_EBADPEER, NULL);
        return;
    }
    control_end(control, 0, answer);
}

void broker_control_event(struct client *client, const char *text, size_t len) {
    struct broker *broker = client->broker;
    enum context_role role = client->context->role;
    if (role != CONTEXT_CELL && (role != CONTEXT_PROXY || !broker->host.proxy_event))
        return;
    json_error_t error;
    cleanup_json json_t *event = json_loadb(text, len, 0, &error);
    if (json_is_object(event) && role == CONTEXT_PROXY)
        broker->host.proxy_event(broker->host.context, event);
    else if (json_is_object(event))
        broker->host.cell_event(broker->host.context, client->context->dc, event);
    else
        log_warning("a client's event is not JSON: %s", error.text);
}

void broker_controls_end(struct client *client) {
    struct control *control;
    while ((control = list_first(&client->controls, struct control, link)))
        control_end(control, -DVK_EDEADDST, NULL);
}
