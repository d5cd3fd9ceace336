/* SPDX-License-Identifier: Apache-2.0 */
/*
 * greet_client DC NAME [NODE]: ask the server on that node (its id), or the first that there is on any. Where it runs makes no
 * difference to the code.
 */
#include "example.h"
#include "greet.h"

static int ask(struct dvk *dvk, dvk_endpoint self, uint32_t node, const char *name) {
    struct dvk_message message = {.destination = dvk_service_endpoint(node, SERVICE_GREET), .type = GREET};
    snprintf((char *)message.payload.bytes, GREET_NAME_MAX + 1, "%s", name);
    int error = dvk_sendrec(dvk, self, &message, NULL, 0, NULL, 0, NULL, 5000);
    if (error < 0)
        return error; /* no reply came */
    if (message.status < 0)
        return message.status; /* a reply came: the server refuses */
    printf("%.*s\n", (int)DVK_PAYLOAD_SIZE, (const char *)message.payload.bytes);
    return 0;
}

int main(int argc, char **argv) {
    uint32_t dc, nodes[DVK_MAX_NODE];
    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: greet_client DC NAME [NODE]\n");
        return 2;
    }
    struct dvk *dvk = open_dc(argv[1], &dc);
    dvk_endpoint self = bind_service(dvk, dc, 0);
    int count = 1, error = -DVK_ENOTBOUND;
    if (argc == 4)
        nodes[0] = (uint32_t)strtoul(argv[3], NULL, 10);
    else
        count = dvk_dc_nodes(dvk, dc, nodes, DVK_MAX_NODE);
    if (count < 0)
        die(argv[1], count);
    for (int i = 0; i < count && is_gone(error); i++)
        error = ask(dvk, self, nodes[i], argv[2]);
    if (error < 0)
        die("greet", error);
    dvk_close(dvk);
    return 0;
}
