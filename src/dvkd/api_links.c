/* SPDX-License-Identifier: Apache-2.0 */
/* node.links: what this node's proxy has counted of its links to the other nodes. */
#include "common/cleanup.h"
#include "dvkd/api.h"

#include <stdlib.h>

#define LINKS_MS 5000u

struct asking {
    struct connection *connection; /* NULL: gone */
    struct dvkd *dvkd;
};

static void asking_gone(void *context) { ((struct asking *)context)->connection = NULL; }

static void proxy_answered(void *context, int status, const json_t *answer) {
    struct asking *asking = context;
    json_t *links = json_object_get(answer, "links"), *link;
    struct failure failure;
    size_t i;
    json_array_foreach(links, i, link) {
        uint32_t node = (uint32_t)field_integer_or(link, "node", 1, DVK_MAX_NODE, 0);
        json_object_set_new(link, "name", json_string(dvkd_node_name(asking->dvkd, node)));
    }
    if (asking->connection) {
        connection_on_gone(asking->connection, NULL, NULL);
        if (status == 0 && json_is_array(links)) {
            connection_succeed(asking->connection, json_pack("{s:s, s:O}", "node", asking->dvkd->options.node, "links", links));
        } else {
            failure_set(&failure, 0, "unavailable", "try again", "the proxy of node %s does not answer",
                        asking->dvkd->options.node);
            connection_fail(asking->connection, &failure);
        }
    }
    free(asking);
}

void api_node_links(struct connection *connection, const json_t *request) {
    struct dvkd *dvkd = connection_dvkd(connection);
    struct client *proxy = dvkd->proxy.client;
    struct asking *asking = proxy ? malloc(sizeof *asking) : NULL;
    if (!asking) { /* a node alone has no links */
        connection_succeed(connection, json_pack("{s:s, s:[]}", "node", dvkd->options.node, "links"));
        return;
    }
    *asking = (struct asking){connection, dvkd};
    connection_on_gone(connection, asking_gone, asking);
    cleanup_json json_t *ask = json_pack("{s:s}", "op", "links");
    broker_control(proxy, ask, NULL, 0, LINKS_MS, proxy_answered, asking, NULL);
}
