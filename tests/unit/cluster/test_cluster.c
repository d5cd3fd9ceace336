/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens, corosync's nodelist in files that people have edited, cluster.json, and nodes as changes of the configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/cluster.h"
#include "common/cleanup.h"
#include "dvkd/config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static char root[] = "/tmp/dvs-test-cluster-XXXXXX";

static int setup(void **state) {
    return mkdtemp(root) ? 0 : -1;
}
static int teardown(void **state) {
    char command[160];
    snprintf(command, sizeof command, "rm -rf -- %s", root);
    return system(command);
}

/* ---- tokens ---- */

static void test_token(void **state) {
    struct cluster_token token = {.address = "10.0.0.1:7070", .expires = 1789000000}, back;
    char text[CLUSTER_TOKEN_MAX];
    for (int i = 0; i < PKI_FINGERPRINT; i++)
        token.fingerprint[i] = (uint8_t)(i * 9);
    for (int i = 0; i < CLUSTER_SECRET_BYTES; i++)
        token.secret[i] = (uint8_t)(255 - i);
    cluster_token_encode(&token, text);
    assert_true(cluster_token_decode(text, &back));
    assert_string_equal(back.address, token.address);
    assert_int_equal(back.expires, token.expires);
    assert_memory_equal(back.fingerprint, token.fingerprint, sizeof token.fingerprint);
    assert_memory_equal(back.secret, token.secret, sizeof token.secret);
    size_t len = strlen(text);
    for (size_t n = 0; n < len; n++) { /* a part of it is none */
        char cut[CLUSTER_TOKEN_MAX];
        memcpy(cut, text, n);
        cut[n] = 0;
        assert_false(cluster_token_decode(cut, &back));
    }
    static const char *const wrong[] = {"", "dvs1/", "dvs2/10.0.0.1:7070/1/00/00", "dvs1/0.0.0.0:1/1/00/00", "////"};
    for (size_t i = 0; i < ARRAY_LENGTH(wrong); i++)
        assert_false(cluster_token_decode(wrong[i], &back));
    text[len - 1] = 'g';
    assert_false(cluster_token_decode(text, &back));
    text[len - 1] = '0';
    strcat(text, "0");
    assert_false(cluster_token_decode(text, &back));
}

static void test_listen(void **state) {
    static const char *const good[] = {"10.0.0.1:7070", "127.0.0.1:1", "1.2.3.4:65535"};
    static const char *const bad[] = {"", ":1", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:7x",
                                      "0.0.0.0:7070", "host:7070", "10.0.0.1:-1", "10.0.0.1: 1", "::1:7070"};
    for (size_t i = 0; i < ARRAY_LENGTH(good); i++)
        assert_true(cluster_listen_valid(good[i]));
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++)
        assert_false(cluster_listen_valid(bad[i]));
}

/* ---- corosync.conf ---- */

static const char edited_by_hand[] = "# nodelist { not this }\n"
                                     "totem {\n  version: 2\n  interface {\n    linknumber: 0\n  }\n}\n"
                                     "nodelist {\n"
                                     "  # the first\n"
                                     "  node {\n    ring0_addr: 10.0.0.1\n    ring1_addr: 10.1.0.1\n    name: a\n    nodeid: 1\n  }\n"
                                     "\tnode {\n\t\tnodeid: 7\n\t\tname:  seven \n\t\tring0_addr: 10.0.0.7\n\t}\n"
                                     "}\n"
                                     "quorum {\n  provider: corosync_votequorum\n}\n";

static void test_members(void **state) {
    struct cluster_member members[4];
    assert_int_equal(cluster_corosync_members(edited_by_hand, members, 4), 2);
    assert_int_equal(members[0].id, 1);
    assert_string_equal(members[0].name, "a");
    assert_string_equal(members[0].address, "10.0.0.1");
    assert_int_equal(members[1].id, 7);
    assert_string_equal(members[1].name, "seven");
    assert_int_equal(cluster_corosync_members("totem {\n}\n", members, 4), -EBADMSG);
    assert_int_equal(cluster_corosync_members("nodelist {\n node {\n", members, 4), -EBADMSG);
    assert_int_equal(cluster_corosync_members("nodelist {\n}\n", members, 4), 0);
}

/* Adding and taking out what was added gives the same text, to the byte. */
static void test_edit(void **state) {
    struct cluster_member member = {.id = 9, .name = "nine", .address = "10.0.0.9"}, members[4];
    cleanup_free char *more = cluster_corosync_edit(edited_by_hand, &member);
    assert_non_null(more);
    assert_int_equal(cluster_corosync_members(more, members, 4), 3);
    assert_int_equal(members[2].id, 9);
    assert_string_equal(members[2].address, "10.0.0.9");
    assert_non_null(strstr(more, "ring1_addr: 10.1.0.1"));
    cleanup_free char *again = cluster_corosync_edit(more, &member);
    assert_string_equal(again, more);
    member.address[0] = 0;
    cleanup_free char *less = cluster_corosync_edit(more, &member);
    assert_string_equal(less, edited_by_hand);
    member.id = 1;
    cleanup_free char *without = cluster_corosync_edit(less, &member);
    assert_int_equal(cluster_corosync_members(without, members, 4), 1);
    assert_int_equal(members[0].id, 7);
    assert_null(cluster_corosync_edit("totem {\n}\n", &member));
}

/* ---- the first node ---- */

static mode_t mode_of(const char *file) {
    char path[128];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", root, file);
    return stat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

static void test_init(void **state) {
    struct cluster_node node = {.identity = {.cluster = "c1", .name = "a", .node = 1}, .listen = "10.0.0.1:7070",
                                .token_ms = 1000}, back;
    struct cluster_member members[2];
    struct failure failure = {0};
    snprintf(node.corosync, sizeof node.corosync, "%s", root);
    assert_int_equal(cluster_node_load(root, &back, &failure), -ENOENT);
    char conf[128], aside[160];
    cleanup_free char *kept = NULL;
    snprintf(conf, sizeof conf, "%s/corosync.conf", root);
    snprintf(aside, sizeof aside, "%s%s", conf, CLUSTER_ASIDE);
    assert_int_equal(pki_file_write(conf, "somebody's", 10, 0644), 0);
    assert_int_equal(cluster_init(root, &node, &failure), 0);
    assert_int_equal(pki_file_read(aside, 100, &kept), 0); /* it is not lost */
    assert_string_equal(kept, "somebody's");
    assert_int_equal(cluster_node_load(root, &back, &failure), 0);
    assert_string_equal(back.identity.cluster, "c1");
    assert_string_equal(back.listen, node.listen);
    assert_int_equal(back.token_ms, 1000);
    assert_true(cluster_has_certificate(root) && cluster_has_authority(root));
    assert_int_equal(mode_of("tls"), 0700);
    assert_int_equal(mode_of("tls/ca.key"), 0600);
    assert_int_equal(mode_of("tls/node.key"), 0600);
    assert_int_equal(mode_of("authkey"), 0400);
    assert_int_equal(cluster_corosync_load(root, members, 2, &failure), 1);
    assert_string_equal(members[0].address, "10.0.0.1");
    assert_int_equal(cluster_init(root, &node, &failure), -EEXIST); /* not over another */
    struct cluster_token token = {.address = "10.0.0.1:7070"};
    assert_int_equal(cluster_join(root, &token, NULL, &node, &failure), -EEXIST);
}

/* ---- the configuration ---- */

static int apply(struct config *config, const char *text, struct failure *failure) {
    struct config_effect effect;
    cleanup_json json_t *change = json_loads(text, 0, NULL);
    assert_non_null(change);
    return config_apply(config, change, &effect, failure);
}

static void test_nodes(void **state) {
    struct config *config = config_new();
    struct failure failure = {0};
#define NODE(id, name, address)                                                                                        \
    "{\"op\":\"node-add\",\"id\":" id ",\"name\":\"" name "\",\"address\":\"" address                                  \
    "\",\"run\":\"\",\"version\":\"\",\"cpus\":0}"
    assert_int_equal(apply(config, NODE("1", "a", "10.0.0.1:1"), &failure), 0);
    assert_int_equal(apply(config, NODE("2", "b", "10.0.0.2:1"), &failure), 0);
    assert_int_equal(config->epoch, 2);
    assert_int_equal(apply(config, NODE("2", "c", "10.0.0.3:1"), &failure), -EEXIST);
    assert_int_equal(apply(config, NODE("3", "b", "10.0.0.3:1"), &failure), -EEXIST);
    assert_int_equal(apply(config, NODE("3", "c", "10.0.0.2:1"), &failure), -EEXIST);
    assert_int_equal(apply(config, NODE("0", "c", "10.0.0.3:1"), &failure), -EINVAL);
    assert_int_equal(apply(config, NODE("385", "c", "10.0.0.3:1"), &failure), -EINVAL);
    assert_int_equal(apply(config, NODE("3", "c", ""), &failure), -EINVAL);
    assert_int_equal(apply(config, "{\"op\":\"node-remove\",\"node\":3}", &failure), -ENOENT);
    assert_int_equal(apply(config, "{\"op\":\"node-remove\"}", &failure), -ENOENT);
    assert_int_equal(apply(config, "{\"op\":\"dc-create\",\"name\":\"x\",\"nodes\":[1,2],\"primary\":1,\"created\":1,\"spec\":"
                                   "{\"image\":\"host\",\"argv\":[\"true\"],\"env\":[],\"mounts\":[],\"place\":\"spread\"}}",
                           &failure), 0);
    assert_int_equal(apply(config, "{\"op\":\"node-remove\",\"node\":2}", &failure), -EBUSY);
    assert_int_equal(apply(config, "{\"op\":\"dc-remove\",\"dc\":1,\"serial\":3,\"force\":true}", &failure), 0);
    assert_int_equal(apply(config, "{\"op\":\"node-remove\",\"node\":2}", &failure), 0);
    assert_null(config->nodes[2]);
    assert_int_equal(apply(config, NODE("2", "b", "10.0.0.2:1"), &failure), 0); /* its place is free */
    config_free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token), cmocka_unit_test(test_listen), cmocka_unit_test(test_members),
        cmocka_unit_test(test_edit),  cmocka_unit_test(test_init),   cmocka_unit_test(test_nodes),
    };
    return cmocka_run_group_tests_name("cluster", tests, setup, teardown);
}
