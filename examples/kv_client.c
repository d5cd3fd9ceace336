/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv_client DC put KEY VALUE | get KEY: finds the primary, wherever it is, and goes on to the next one when it is lost: at
 * most 15 s. To put the same value twice does no harm, so a put whose answer was lost is simply made again.
 */
#include "example.h"
#include "kv.h"

#include <time.h>

#define GIVE_UP_S 15

static int ask(struct dvk *dvk, dvk_endpoint self, uint32_t node, uint32_t type, struct kv_pair *pair) {
    struct dvk_message message = {.destination = dvk_service_endpoint(node, SERVICE_KV), .type = type};
    memcpy(message.payload.bytes, pair, sizeof *pair);
    int error = dvk_sendrec(dvk, self, &message, NULL, 0, NULL, 0, NULL, GIVE_UP_S * 1000);
    if (error == 0)
        error = message.status;
    if (error == 0)
        memcpy(pair, message.payload.bytes, sizeof *pair);
    return error;
}

static int ask_primary(struct dvk *dvk, uint32_t dc, dvk_endpoint self, uint32_t type, struct kv_pair *pair) {
    uint32_t nodes[DVK_MAX_NODE];
    int count = dvk_dc_nodes(dvk, dc, nodes, DVK_MAX_NODE), error = count < 0 ? count : -DVK_ENOTBOUND;
    time_t give_up = time(NULL) + GIVE_UP_S;
    while (count > 0 && time(NULL) < give_up) {
        for (int i = 0; i < count; i++) {
            error = ask(dvk, self, nodes[i], type, pair);
            if (!is_gone(error) && error != KV_NOT_PRIMARY)
                return error;
        }
        const struct timespec pause = {.tv_nsec = 50000000}; /* the backup is about to take over */
        nanosleep(&pause, NULL);
    }
    return error;
}

int main(int argc, char **argv) {
    uint32_t dc;
    struct kv_pair pair = {{0}, {0}};
    int put = argc == 5 && strcmp(argv[2], "put") == 0, get = argc == 4 && strcmp(argv[2], "get") == 0;
    if ((!put && !get) || strlen(argv[3]) > KV_KEY_MAX || (put && strlen(argv[4]) > KV_VALUE_MAX)) {
        fprintf(stderr, "usage: kv_client DC put KEY VALUE | get KEY\n");
        return 2;
    }
    strcpy(pair.key, argv[3]);
    if (put)
        strcpy(pair.value, argv[4]);
    struct dvk *dvk = open_dc(argv[1], &dc);
    dvk_endpoint self = bind_service(dvk, dc, 0);
    int error = ask_primary(dvk, dc, self, put ? KV_PUT : KV_GET, &pair);
    if (error < 0)
        die(argv[3], error);
    if (get)
        printf("%.*s\n", KV_VALUE_MAX, pair.value);
    dvk_close(dvk);
    return 0;
}
