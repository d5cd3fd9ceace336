/* SPDX-License-Identifier: Apache-2.0 */
#include "setup.h"

#include "scratch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct vos vos[FAKE_NODES];
char scratch[64], image_path[128], upper_path[128];
bool setup_volumes;
const char *setup_volume_path;
static unsigned count;

void setup(unsigned nodes) {
    scratch_directory(scratch);
    snprintf(image_path, sizeof(image_path), "%s/image", scratch);
    snprintf(upper_path, sizeof(upper_path), "%s/upper", scratch);
    mkdir(image_path, 0755);
    mkdir(upper_path, 0755);
    make_sample_tree(image_path);
    memset(vos, 0, sizeof(vos));
    fake_seed(0);
    dc_start();
    fake_server = NULL;
    count = nodes;
    for (unsigned i = 0; setup_volumes && i < nodes; i++) {
        vos[i].mount_count = 2;
        for (unsigned m = 0; m < 2; m++) {
            vos[i].mounts[m].node = 2;
            vos[i].mounts[m].read_only = m == 1;
            vos[i].mounts[m].dir_fd = i == 1 ? open(setup_volume_path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
            strcpy(vos[i].mounts[m].path, m ? "/a/b/vol" : "/vol");
        }
    }
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
