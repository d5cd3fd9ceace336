/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups and services as a program uses them; one line of output an event.
 *
 *   service_tool member SOCKET DC NAME MEMBERS MESSAGES
 *       join group NAME, wait until it has MEMBERS members, send MESSAGES messages, then "end"; print "view NUMBER COUNT" and
 *       "message NODE TEXT" as they are received, until every member of the view has sent its "end"
 *   service_tool count SOCKET DC KEY WHO TIMES
 *       raise a counter TIMES times by compare-and-swap; print "done SEQUENCE REVISION" or "unknown SEQUENCE"
 *   service_tool watch SOCKET DC ENDPOINT...
 *       print "nodes NUMBER-UP", "watching", and "gone ENDPOINT WHY" until all are gone
 *   service_tool stay SOCKET DC
 *       print our endpoint and stay until standard input ends
 *   service_tool stopped SOCKET DC NAME
 *       join group NAME, print "joined", and take nothing until standard input ends; then print how many messages came
 */
#include <dvk/detector.h>
#include <dvk/group.h>
#include <dvk/service.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct dvk *dvk;
static dvk_endpoint self;

static void must(int result, const char *what) {
    if (result >= 0)
        return;
    printf("failed %s %s\n", what, dvk_strerror(result));
    exit(1);
}

static void start(const char *socket, const char *dc) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    must(dvk_open(socket, &dvk), "open");
    must(dvk_bind(dvk, (uint32_t)atoi(dc), DVK_SLOT_ANY, &self), "bind");
}

/* ---- member ---- */

static struct dvk_group_member members[DVK_GROUP_MEMBERS_MAX], ended[DVK_GROUP_MEMBERS_MAX];
static uint32_t member_count, ended_count;

static int all_ended(void) {
    for (uint32_t i = 0; i < member_count; i++) {
        uint32_t k = 0;
        while (k < ended_count && (ended[k].endpoint != members[i].endpoint || ended[k].node != members[i].node))
            k++;
        if (k == ended_count)
            return 0;
    }
    return member_count > 0;
}

static void take(int timeout_ms) {
    struct dvk_request *request;
    struct dvk_group_view view;
    int result = dvk_receive(dvk, &request, timeout_ms);
    if (result == -DVK_ETIMEDOUT)
        return;
    must(result, "receive");
    if (dvk_group_view_of(request, &view) == 0) {
        if (view.flags & DVK_GROUP_OUT) {
            printf("out\n");
            exit(3);
        }
        printf("view %" PRIu64 " %u\n", view.number, view.count);
        member_count = view.count;
        memcpy(members, view.members, view.count * sizeof *members);
    } else if (request->group) {
        printf("message %u %.*s\n", request->source_node, (int)request->msg.data_len, (const char *)request->data);
        if (request->msg.type == 2)
            ended[ended_count++] = (struct dvk_group_member){request->msg.source, request->source_node, 0};
    }
    dvk_release(dvk, request);
}

static void say(uint64_t group, uint32_t type, const char *text) {
    const struct dvk_message message = {.type = type};
    int result;
    while ((result = dvk_group_mcast(dvk, group, &message, text, strlen(text), 20000)) == -EAGAIN)
        take(0);
    must(result, "mcast");
}

static int member(char **argv) {
    uint64_t group;
    char text[64];
    must(dvk_group_join(dvk, self, argv[0], &group, 20000), "join");
    while (member_count < (uint32_t)atoi(argv[1]))
        take(20000);
    for (int i = 0; i < atoi(argv[2]); i++) {
        snprintf(text, sizeof text, "%u.%u.%d", dvk_node(dvk), dvk_endpoint_slot(self), i);
        say(group, 1, text);
        take(0);
    }
    say(group, 2, "end");
    while (!all_ended())
        take(20000);
    must(dvk_group_leave(dvk, group, 20000), "leave");
    return 0;
}

/* ---- count ---- */

static int count(char **argv) {
    char value[64], text[64];
    struct dvk_kv info;
    uint64_t revision;
    int times = atoi(argv[2]);
    for (int i = 0; i < times;) {
        memset(value, 0, sizeof value);
        int result = dvk_kv_get(dvk, self, argv[0], value, sizeof value - 1, &info, 0, 20000);
        if (result == -DVK_ENOKEY)
            info.revision = DVK_KV_NONE;
        else if (result == -DVK_ENOQUORUM)
            continue;
        else
            must(result, "get");
        snprintf(text, sizeof text, "%d %s.%d", atoi(value) + 1, argv[1], i);
        result = dvk_kv_cas(dvk, self, argv[0], info.revision, text, strlen(text), &revision, 20000);
        if (result == -DVK_ECONFLICT || result == -DVK_ENOQUORUM)
            continue;
        if (result == -DVK_EUNKNOWN) {
            printf("unknown %s.%d\n", argv[1], i++);
            continue;
        }
        must(result, "cas");
        printf("done %s.%d %" PRIu64 "\n", argv[1], i++, revision);
    }
    return 0;
}

/* ---- watch ---- */

static int gone;

static void on_gone(void *context, dvk_endpoint endpoint, int status) {
    printf("gone %s %s\n", (const char *)context, dvk_strerror(status));
    gone++;
}

static int watch(char **argv, int argc) {
    uint64_t id, dropped;
    struct dvk_node_state nodes[8];
    int up = dvk_nodes(dvk, nodes, 8);
    printf("nodes %d\n", up);
    must(dvk_watch_endpoint(dvk, self, strtoull(argv[0], NULL, 10), on_gone, "not wanted", &dropped), "watch");
    must(dvk_unwatch_endpoint(dvk, dropped), "unwatch");
    if (dvk_unwatch_endpoint(dvk, dropped) != -ENOENT)
        return 4;
    for (int i = 0; i < argc; i++)
        must(dvk_watch_endpoint(dvk, self, strtoull(argv[i], NULL, 10), on_gone, argv[i], &id), "watch");
    printf("watching\n");
    while (gone < argc) {
        struct dvk_request *request;
        int result = dvk_receive(dvk, &request, 100);
        if (result == 0)
            dvk_release(dvk, request);
        else if (result != -DVK_ETIMEDOUT)
            must(result, "receive");
    }
    return 0;
}

static int stay(void) {
    char byte;
    printf("%" PRIu64 "\n", self);
    while (read(0, &byte, 1) > 0)
        ;
    return 0;
}

/* ---- stopped ---- */

static int stopped(char **argv) {
    uint64_t group;
    char byte;
    unsigned messages = 0;
    must(dvk_group_join(dvk, self, argv[0], &group, 20000), "join");
    printf("joined\n");
    while (read(0, &byte, 1) > 0)
        ;
    for (;;) {
        struct dvk_request *request;
        int result = dvk_receive(dvk, &request, 3000);
        if (result == -DVK_ETIMEDOUT)
            break;
        must(result, "receive");
        messages += request->group_event == DVK_GROUP_MESSAGE;
        dvk_release(dvk, request);
    }
    printf("messages %u\n", messages);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4)
        return 2;
    start(argv[2], argv[3]);
    int result = 2;
    if (strcmp(argv[1], "member") == 0 && argc == 7)
        result = member(argv + 4);
    else if (strcmp(argv[1], "count") == 0 && argc == 7)
        result = count(argv + 4);
    else if (strcmp(argv[1], "stopped") == 0 && argc == 5)
        result = stopped(argv + 4);
    else if (strcmp(argv[1], "watch") == 0 && argc > 4)
        result = watch(argv + 4, argc - 4);
    else if (strcmp(argv[1], "stay") == 0)
        result = stay();
    dvk_close(dvk);
    return result;
}
