/* SPDX-License-Identifier: Apache-2.0 */
#include "setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct vos vos[FAKE_NODES];
char scratch[64], image_path[128], upper_path[128];
static unsigned count;

void setup(unsigned nodes) {
    strcpy(scratch, "/tmp/dvs-fs-test-XXXXXX");
    if (!mkdtemp(scratch))
        abort();
    snprintf(image_path, sizeof(image_path), "%s/image", scratch);
    snprintf(upper_path, sizeof(upper_path), "%s/upper", scratch);
    mkdir(image_path, 0755);
    mkdir(upper_path, 0755);
    make_sample_tree(image_path);
    memset(vos, 0, sizeof(vos));
    fake_seed(0);
    fake_server = NULL;
    count = nodes;
    fake_start(vos, nodes, image_path, upper_path);
}

void teardown(void) {
    fake_stop(vos, count);
    remove_tree(scratch);
}

struct guest guest_on(unsigned node, uint32_t pid) {
    fake_process(&vos[node - 1], pid, 0, 0);
    return (struct guest){&vos[node - 1], pid};
}
