/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/privilege.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/record.h"
#include "dvk/channel.h"
#include "dvk/privilege_set.h"
#include "dvkd/broker_private.h"

#include <dvk/error.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FLUSH_WAIT_MS 10000u

/* What a context had in a DC when it unbound its last endpoint there. Made when one is narrowed first. */
struct kept {
    struct list link; /* context.kept */
    uint32_t dc;
    struct dvk_privileges *privileges; /* NULL: all. Of no meaning while it has endpoints there */
};

/* A change whose answer waits until those who were told have it in their sockets. */
struct privilege_wait {
    struct list link; /* privileges.waits */
    struct client *client;
    struct dvk_broker_packet answer;
    struct dvk_privileges now;
    struct list told; /* struct unflushed.of_wait */
    struct loop_timer *timer;
};
struct unflushed {
    struct list of_wait, of_client;
    struct privilege_wait *wait;
};

static const struct dvk_privileges all = DVK_PRIVILEGES_ALL;

/* ---- the count of changes ---- */

/* A page that we alone can write, whoever has its descriptor. */
static int epoch_make(struct privileges *privileges) {
    cleanup_close int fd = memfd_create("dvk-privileges", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, DVK_PAGE) < 0)
        return -errno;
    void *page = mmap(NULL, DVK_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return -errno;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0) {
        int result = -errno;
        munmap(page, DVK_PAGE);
        return result;
    }
    privileges->epoch = page;
    privileges->epoch_fd = steal_fd(&fd);
    return 0;
}

void privileges_init(struct broker *broker) {
    struct privileges *privileges = &broker->privileges;
    *privileges = (struct privileges){.epoch_fd = -1};
    list_init(&privileges->waits);
    int result = epoch_make(privileges);
    if (result < 0) /* they cannot be changed then: see broker_set_privileges */
        log_error("no page for changes of privileges: %s", strerror(-result));
}

void privileges_destroy(struct broker *broker) {
    struct privileges *privileges = &broker->privileges;
    if (privileges->epoch)
        munmap(privileges->epoch, DVK_PAGE);
    if (privileges->epoch_fd >= 0)
        close(privileges->epoch_fd);
}

/* Whoever takes a message from now on reads first what we have told it. */
static void epoch_step(struct broker *broker) {
    if (broker->privileges.epoch)
        __atomic_fetch_add(broker->privileges.epoch, 1u, __ATOMIC_SEQ_CST);
}

/* ---- binding ---- */

static const struct dvk_privileges *privileges_of(const struct endpoint *endpoint) {
    return endpoint->privileges ? endpoint->privileges : &all;
}

/* The oldest one that the context has in a DC. */
static const struct endpoint *oldest(const struct context *context, uint32_t dc) {
    const struct endpoint *endpoint;
    list_for_each(endpoint, &context->endpoints, context_link) if (endpoint->dc == dc && !endpoint->guest) return endpoint;
    return NULL;
}

static struct kept *kept_of(const struct context *context, uint32_t dc) {
    struct kept *kept;
    list_for_each(kept, &context->kept, link) if (kept->dc == dc) return kept;
    return NULL;
}

bool privileges_may_bind(const struct context *context) {
    const struct endpoint *endpoint;
    const struct kept *kept;
    if (list_empty(&context->kept)) /* none of its endpoints was ever narrowed */
        return true;
    list_for_each(endpoint, &context->endpoints, context_link) {
        if (!(privileges_of(endpoint)->calls & DVK_MAY_BIND))
            return false;
    }
    list_for_each(kept, &context->kept, link) {
        if (kept->privileges && !(kept->privileges->calls & DVK_MAY_BIND) && !oldest(context, kept->dc))
            return false;
    }
    return true;
}

static struct dvk_privileges *copy_of(const struct dvk_privileges *privileges) {
    struct dvk_privileges *copy = malloc(sizeof *copy);
    if (copy)
        *copy = *privileges;
    return copy;
}

int privileges_bind(const struct context *context, struct endpoint *endpoint) {
    endpoint->privileges = NULL;
    if (endpoint->guest || list_empty(&context->kept))
        return 0;
    const struct endpoint *before = oldest(context, endpoint->dc);
    const struct kept *kept = before ? NULL : kept_of(context, endpoint->dc);
    const struct dvk_privileges *given = before ? before->privileges : kept ? kept->privileges : NULL;
    if (given)
        endpoint->privileges = copy_of(given);
    return given && !endpoint->privileges ? -ENOMEM : 0;
}

void privileges_unbind(struct context *context, struct endpoint *endpoint) {
    struct kept *kept = endpoint->guest ? NULL : kept_of(context, endpoint->dc);
    if (kept && !oldest(context, endpoint->dc)) {
        free(kept->privileges);
        kept->privileges = endpoint->privileges;
    } else
        free(endpoint->privileges);
    endpoint->privileges = NULL;
}

void privileges_context_gone(struct context *context) {
    struct kept *kept;
    while ((kept = list_first(&context->kept, struct kept, link))) {
        list_remove(&kept->link);
        free(kept->privileges);
        free(kept);
    }
}

/* ---- telling ---- */

const char *privileges_tell(const struct endpoint *endpoint, struct dvk_broker_packet *packet) {
    const struct dvk_privileges *privileges = endpoint ? endpoint->privileges : NULL;
    packet->text_len = privileges ? sizeof *privileges : 0;
    return (const char *)privileges;
}

/* channel: 0: it is the client's own endpoint. */
static void tell(struct client *client, const struct endpoint *endpoint, uint64_t channel) {
    struct dvk_broker_packet packet = {.type = DVK_BROKER_PRIVILEGES,
                                       .dc = endpoint->dc,
                                       .endpoint = endpoint_address(endpoint),
                                       .channel = channel};
    const char *text = privileges_tell(endpoint, &packet);
    client_send(client, &packet, text, NULL, 0);
}

void privileges_bound(struct client *client, uint32_t dc, dvk_endpoint address) {
    const struct endpoint *endpoint = registry_find_endpoint(&client->broker->registry, dc, address);
    if (!endpoint || !endpoint->privileges)
        return;
    tell(client, endpoint, 0);
    epoch_step(client->broker);
}

/* ---- what dvkd refuses ---- */

static void count_refusal(struct endpoint *endpoint, dvk_endpoint other, uint64_t calls, uint64_t more) {
    endpoint->refused += more;
    record(RECORD_REFUSED, endpoint->dc, endpoint_address(endpoint), other, calls, endpoint->refused);
}

int privileges_connect(struct endpoint *from, dvk_endpoint to) {
    if (!from || privileges_lead(privileges_of(from), to))
        return 0;
    count_refusal(from, to, 0, 1);
    return -DVK_ENOTALLOWED;
}

int privileges_connected(const struct endpoint *from, struct endpoint *to) {
    if (!from || privileges_accept(privileges_of(to), endpoint_address(from)))
        return 0;
    count_refusal(to, endpoint_address(from), 0, 1);
    return -DVK_ENOTALLOWED;
}

bool privileges_may(struct client *client, uint32_t dc, dvk_endpoint address, uint32_t calls) {
    struct endpoint *endpoint = registry_find_endpoint(&client->broker->registry, dc, address);
    if (!endpoint || endpoint->context != client->context || privileges_of(endpoint)->calls & calls)
        return true; /* what is not its own is refused elsewhere */
    count_refusal(endpoint, DVK_NONE, calls, 1);
    return false;
}

/* A peer, or the endpoint's own process, has refused messages by its privileges. */
void broker_refused(struct client *client, const struct dvk_broker_packet *packet) {
    struct registry *registry = &client->broker->registry;
    const struct channel *channel = registry_channel_find(registry, packet->channel);
    struct endpoint *endpoint = registry_find_endpoint(registry, packet->dc, packet->endpoint);
    if (!channel || !endpoint || !endpoint->privileges || channel->guest)
        return; /* it was under way when they went */
    const struct context *one = channel->party[0], *two = channel->party[1];
    bool concerned = (one == client->context || two == client->context) && channel->dc == endpoint->dc &&
                     (endpoint->context == one || endpoint->context == two);
    if (concerned) /* it tells of the first, and each time that there are twice as many */
        count_refusal(endpoint, packet->peer, 0, packet->id - packet->id / 2);
}

/* ---- asking for them, and changing them ---- */

/* A guest's: fixed. */
static struct dvk_privileges guest_privileges(const struct broker *broker) {
    const uint32_t first = dvk_system_slot(broker->node, 0), last = dvk_system_slot(broker->node, DVK_SERVICE_MAX - 1);
    struct dvk_privileges privileges = {.calls = DVK_MAY_SENDREC | DVK_MAY_NOTIFY};
    privileges.to.count = privileges.from.count = 1;
    privileges.to.ranges[0] = privileges.from.ranges[0] = (struct dvk_peers_range){first, last};
    return privileges;
}

static void answer(struct client *client, const struct dvk_broker_packet *packet, int status) {
    struct dvk_broker_packet out = client_answer(packet, status);
    client_send(client, &out, NULL, NULL, 0);
}

static void answer_with(struct client *client, const struct dvk_broker_packet *packet, const struct endpoint *endpoint) {
    struct dvk_privileges now = endpoint->guest ? guest_privileges(client->broker) : *privileges_of(endpoint);
    struct dvk_broker_packet out = client_answer(packet, 0);
    out.endpoint = endpoint_address(endpoint);
    out.text_len = sizeof now;
    client_send(client, &out, (const char *)&now, NULL, 0);
}

/* Who asks: one of the client's own, or a proxy for another node, whose endpoint is not known here (*asker is NULL then). */
static int asker_find(struct client *client, const struct dvk_broker_packet *packet, struct endpoint **asker) {
    *asker = NULL;
    if (client->context->role == CONTEXT_PROXY)
        return 0;
    *asker = registry_find_endpoint(&client->broker->registry, packet->dc, packet->endpoint);
    return !*asker || (*asker)->context != client->context || (*asker)->guest ? -DVK_ENOTALLOWED : 0;
}

/* Whose privileges are meant. 1: it is another node's, and was answered so. */
static int whose_find(struct client *client, const struct dvk_broker_packet *packet, struct endpoint **whose) {
    struct broker *broker = client->broker;
    uint32_t home = 0;
    int result = broker_home(broker, packet->dc, packet->peer, &home);
    if (result < 0)
        return result;
    if (home == broker->node) {
        *whose = registry_find_endpoint(&broker->registry, packet->dc, packet->peer);
        return *whose ? 0 : -DVK_ENOTBOUND;
    }
    if (client->context->role == CONTEXT_PROXY)
        return -DVK_ENOTBOUND; /* it came from another node and does not belong here */
    if (!broker->host.node_is_up(broker->host.context, home))
        return -DVK_ENODEUNREACH;
    struct dvk_broker_packet elsewhere = client_answer(packet, 0);
    elsewhere.flags = DVK_BROKER_F_ELSEWHERE;
    elsewhere.node = home;
    client_send(client, &elsewhere, NULL, NULL, 0);
    return 1;
}

void broker_get_privileges(struct client *client, const struct dvk_broker_packet *packet) {
    struct endpoint *asker, *whose = NULL;
    int result = asker_find(client, packet, &asker);
    if (result == 0)
        result = whose_find(client, packet, &whose);
    if (result < 0)
        answer(client, packet, result);
    else if (result == 0)
        answer_with(client, packet, whose);
}

static int check_change(const struct client *client, const struct endpoint *asker, const struct endpoint *whose,
                        const struct dvk_privileges *wanted) {
    if (whose->guest || whose->context->role != CONTEXT_PROGRAM)
        return -DVK_ENOTALLOWED;
    if (whose->context == client->context) /* its own process's: it may take away, as it could from what it does */
        return privileges_within(wanted, privileges_of(whose)) ? 0 : -DVK_ENOTALLOWED;
    return !asker || privileges_of(asker)->calls & DVK_MAY_PRIVILEGE ? 0 : -DVK_ENOTALLOWED;
}

/* Replace them. 0 or -ENOMEM. */
static int change(struct endpoint *endpoint, const struct dvk_privileges *wanted) {
    struct context *context = endpoint->context;
    struct dvk_privileges *copy = NULL;
    if (!privileges_are_all(wanted)) {
        struct kept *kept = kept_of(context, endpoint->dc);
        copy = copy_of(wanted);
        if (copy && !kept && (kept = calloc(1, sizeof *kept))) {
            kept->dc = endpoint->dc;
            list_append(&context->kept, &kept->link);
        }
        if (!copy || !kept) {
            free(copy);
            return -ENOMEM;
        }
    }
    free(endpoint->privileges);
    endpoint->privileges = copy;
    return 0;
}

/* ---- waiting for those who were told ---- */

static void wait_free(struct privilege_wait *wait) {
    struct unflushed *unflushed;
    while ((unflushed = list_first(&wait->told, struct unflushed, of_wait))) {
        list_remove(&unflushed->of_wait);
        list_remove(&unflushed->of_client);
        free(unflushed);
    }
    loop_timer_cancel(wait->timer);
    list_remove(&wait->link);
    free(wait);
}

static void wait_end(struct privilege_wait *wait, int status) {
    wait->answer.status = status;
    wait->answer.text_len = status == 0 ? sizeof wait->now : 0;
    client_send(wait->client, &wait->answer, (const char *)&wait->now, NULL, 0);
    wait_free(wait);
}

static void wait_timer_fn(void *context) {
    struct privilege_wait *wait = context;
    wait->timer = NULL;
    wait_end(wait, -DVK_ETIMEDOUT);
}

/* One that was told has gone, or has it: its channels are judged by it from now on. */
static void wait_less(struct unflushed *unflushed) {
    struct privilege_wait *wait = unflushed->wait;
    list_remove(&unflushed->of_wait);
    list_remove(&unflushed->of_client);
    free(unflushed);
    if (list_empty(&wait->told))
        wait_end(wait, 0);
}

/* Does the client lag behind what we have told it? */
static int wait_add(struct privilege_wait *wait, struct client *client) {
    if (list_empty(&client->output) || client->closing)
        return 0;
    struct unflushed *unflushed = malloc(sizeof *unflushed);
    if (!unflushed)
        return -ENOMEM;
    unflushed->wait = wait;
    list_append(&wait->told, &unflushed->of_wait);
    list_append(&client->unflushed, &unflushed->of_client);
    client->privileges_queued = true;
    return 0;
}

void privileges_flushed(struct client *client) {
    if (!client->privileges_queued)
        return;
    client->privileges_queued = false;
    epoch_step(client->broker);
    struct unflushed *unflushed;
    while ((unflushed = list_first(&client->unflushed, struct unflushed, of_client)))
        wait_less(unflushed);
}

void privileges_client_gone(struct client *client) {
    struct unflushed *unflushed;
    while ((unflushed = list_first(&client->unflushed, struct unflushed, of_client)))
        wait_less(unflushed);
    struct privilege_wait *wait;
    list_for_each(wait, &client->broker->privileges.waits, link) if (wait->client == client) wait_free(wait);
}

/* Tell all who judge messages of that endpoint, or to it. -ENOMEM: somebody may learn of it later than `wait` ends. */
static int tell_all(const struct endpoint *endpoint, struct privilege_wait *wait) {
    const struct context *context = endpoint->context;
    struct client *own = context->user;
    struct channel_end *end;
    tell(own, endpoint, 0);
    int result = wait_add(wait, own);
    list_for_each(end, &context->channels, link) {
        const struct channel *channel = end->channel;
        struct client *peer = channel->party[channel->party[0] == context]->user;
        if (channel->dc != endpoint->dc)
            continue;
        tell(peer, endpoint, channel->id);
        int added = wait_add(wait, peer);
        result = added < 0 ? added : result;
    }
    return result;
}

void broker_set_privileges(struct client *client, const struct dvk_broker_packet *packet, const char *text) {
    struct broker *broker = client->broker;
    struct endpoint *asker, *whose = NULL;
    struct dvk_privileges wanted;
    struct privilege_wait *wait = NULL;
    int result = asker_find(client, packet, &asker);
    if (result == 0 && packet->text_len != sizeof wanted)
        result = -EINVAL;
    if (result == 0) {
        memcpy(&wanted, text, sizeof wanted);
        result = privileges_check(&wanted);
    }
    if (result == 0)
        result = whose_find(client, packet, &whose);
    if (result > 0)
        return;
    if (result == 0)
        result = check_change(client, asker, whose, &wanted);
    if (result == 0 && (!broker->privileges.epoch || !(wait = calloc(1, sizeof *wait))))
        result = -ENOMEM;
    if (result == 0)
        result = change(whose, &wanted);
    if (result < 0) {
        if (result == -DVK_ENOTALLOWED && asker)
            count_refusal(asker, packet->peer, DVK_MAY_PRIVILEGE, 1);
        free(wait);
        answer(client, packet, result);
        return;
    }
    record(RECORD_PRIVILEGES, packet->dc, endpoint_address(whose), packet->endpoint, wanted.calls, wanted.to.flags,
           wanted.from.flags);
    *wait = (struct privilege_wait){.client = client, .answer = client_answer(packet, 0), .now = *privileges_of(whose)};
    wait->answer.endpoint = endpoint_address(whose);
    list_init(&wait->told);
    list_append(&broker->privileges.waits, &wait->link);
    result = tell_all(whose, wait);
    epoch_step(broker);
    if (result == 0 && !list_empty(&wait->told))
        result = loop_timer_add(broker->loop, FLUSH_WAIT_MS, wait_timer_fn, wait, &wait->timer);
    if (result < 0 || list_empty(&wait->told))
        wait_end(wait, result < 0 ? -DVK_ETIMEDOUT : 0);
}

/* ---- for people ---- */

void privileges_list(const struct endpoint *endpoint, json_t *item) {
    char text[PRIVILEGE_TEXT_MAX];
    if (endpoint->privileges) {
        privileges_text(endpoint->privileges, text);
        json_object_set_new(item, "privileges", json_string(text));
    }
    if (endpoint->refused)
        json_object_set_new(item, "refused", json_integer((json_int_t)endpoint->refused));
}
