/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree against a plain directory: the same random operations on a DC (image + writable layer, from one or three
 * nodes) and, by the host kernel, on a copy of the image; each result and, from time to time, the whole trees must be the same.
 */
#include "dc.h"
#include "tree.h"
#include "vos/fs/fs.h"
#include "scratch.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* In the child that does the work: say it and end. */
#define die(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), _exit(1))
#define check(condition) ((condition) ? (void)0 : die("%s:%d: %s", __FILE__, __LINE__, #condition))

static struct vos vos[3];
static struct guest guests[3][2]; /* root and uid 1000 on each node */
static const uint32_t uids[2] = {0, 1000};
static unsigned rng;

static unsigned draw(unsigned below) {
    rng = rng * 1664525u + 1013904223u;
    return (rng >> 12) % below;
}

static const char *random_path(char *out) {
    static const char *names[] = {"a", "b", "c", "d", "link", "up", "f", "g", "x", "y", "tmp", "ro", "..", "."};
    unsigned depth = 1 + draw(3);
    out[0] = '\0';
    for (unsigned i = 0; i < depth; i++) {
        strcat(out, i || draw(2) ? "/" : "");
        strcat(out, names[draw(draw(8) ? 12 : 14)]);
    }
    if (!draw(12))
        strcat(out, "/");
    return out;
}

struct step {
    unsigned op, who, node, flags, mode;
    char a[64], b[64];
};

enum { DO_OPEN, DO_MKDIR, DO_RMDIR, DO_UNLINK, DO_RENAME, DO_LINK, DO_SYMLINK, DO_CHMOD, DO_CHOWN, DO_TRUNCATE, DO_STAT, DO_LSTAT,
       DO_ACCESS, DO_READLINK, DO_LIST, DO_READ, DO_MKNOD, DO_COUNT };

static const char *op_names[] = {"open", "mkdir", "rmdir", "unlink", "rename", "link", "symlink", "chmod", "chown", "truncate", "stat", "lstat",
                                 "access", "readlink", "list", "read", "mknod"};

static void random_step(struct step *s, unsigned nodes) {
    static const int open_flags[] = {O_RDONLY, O_WRONLY | O_CREAT, O_WRONLY | O_CREAT | O_TRUNC, O_RDWR, O_WRONLY | O_CREAT | O_EXCL,
                                     O_RDWR | O_APPEND, O_RDONLY | O_DIRECTORY, O_RDONLY | O_NOFOLLOW};
    static const unsigned rename_flags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
    static const unsigned modes[] = {0644, 0600, 0755, 0700, 0444, 0777, 01777, 02755, 0, 0111};
    s->op = draw(DO_COUNT);
    s->who = !draw(3);
    s->node = draw(nodes);
    s->flags = s->op == DO_OPEN ? (unsigned)open_flags[draw(8)] : s->op == DO_RENAME ? rename_flags[draw(5)] : draw(8);
    s->mode = modes[draw(10)];
    random_path(s->a);
    random_path(s->b);
}

/* ---- both sides ---- */

struct outcome {
    int status;
    uint32_t mode, uid, gid;
    int64_t size;
    char text[4096];
};

static void add_name(void *context, const char *name, uint64_t ino, uint8_t type) {
    struct names *names = context;
    names_add(names, name, type);
}

static void dc_step(const struct step *s, struct outcome *o) {
    struct guest *g = &guests[s->node][s->who];
    struct dc_file file;
    struct vos_stat st;
    struct names names = {0};
    memset(o, 0, sizeof(*o));
    switch (s->op) {
    case DO_OPEN:
        o->status = dc_open(g, s->a, (int)s->flags, (int)s->mode & 0777, &file);
        if (o->status == 0) {
            o->mode = file.stat.st_mode;
            o->uid = file.stat.st_uid;
            o->gid = file.stat.st_gid;
            if (S_ISREG(o->mode) && (s->flags & O_ACCMODE) != O_RDONLY)
                o->size = dc_write(g, &file, s->b, strlen(s->b));
            dc_close(g, &file);
        }
        break;
    case DO_MKDIR: o->status = dc_path(g, FS_MKDIR, s->a, s->mode, 0, 0); break;
    case DO_RMDIR: o->status = dc_path(g, FS_UNLINK, s->a, AT_REMOVEDIR, 0, 0); break;
    case DO_UNLINK: o->status = dc_path(g, FS_UNLINK, s->a, 0, 0, 0); break;
    case DO_RENAME: o->status = dc_path2(g, FS_RENAME, s->a, s->b, s->flags); break;
    case DO_LINK: o->status = dc_path2(g, FS_LINK, s->a, s->b, s->flags & 1 ? AT_SYMLINK_FOLLOW : 0); break;
    case DO_SYMLINK: o->status = dc_symlink(g, s->a, s->b); break;
    case DO_CHMOD: o->status = dc_path(g, FS_CHMOD, s->a, s->mode, 0, 0); break;
    case DO_CHOWN: o->status = dc_path(g, FS_CHOWN, s->a, s->flags & 1 ? 1000 : UINT32_MAX, s->flags & 2 ? 1000 : UINT32_MAX, 0); break;
    case DO_TRUNCATE: o->status = dc_path(g, FS_TRUNCATE, s->a, s->flags, 0, 0); break;
    case DO_STAT:
    case DO_LSTAT:
        o->status = dc_stat(g, s->a, s->op == DO_STAT, &st);
        if (o->status == 0) {
            o->mode = st.st_mode;
            o->uid = st.st_uid;
            o->gid = st.st_gid;
            o->size = S_ISDIR(st.st_mode) ? 0 : st.st_size;
        }
        break;
    case DO_ACCESS: o->status = dc_path(g, FS_ACCESS, s->a, s->flags & 7, AT_EACCESS, 0); break;
    case DO_READLINK: o->status = dc_readlink(g, s->a, o->text, sizeof(o->text) - 1); break;
    case DO_LIST:
        o->status = dc_open(g, s->a, O_RDONLY | O_DIRECTORY, 0, &file);
        if (o->status == 0) {
            dc_list(g, &file, add_name, &names);
            names_text(&names, o->text, sizeof(o->text));
            dc_close(g, &file);
        }
        break;
    case DO_READ: o->status = dc_contents(g, s->a, o->text, sizeof(o->text)); break;
    case DO_MKNOD: o->status = dc_path(g, FS_MKNOD, s->a, S_IFREG | (s->mode & 0777), 0, 0); break;
    }
}

#define RESULT(call) ((call) < 0 ? -errno : 0)

static void host_step(const struct step *s, struct outcome *o) {
    struct creds *creds = creds_new(uids[s->who], uids[s->who], NULL, 0);
    struct stat st;
    struct names names = {0};
    int fd;
    memset(o, 0, sizeof(*o));
    check(creds_apply(creds) == 0);
    switch (s->op) {
    case DO_OPEN:
        fd = open(s->a, (int)s->flags, s->mode & 0777);
        o->status = fd < 0 ? -errno : 0;
        if (fd >= 0) {
            fstat(fd, &st);
            o->mode = st.st_mode;
            o->uid = st.st_uid;
            o->gid = st.st_gid;
            if (S_ISREG(o->mode) && (s->flags & O_ACCMODE) != O_RDONLY)
                o->size = write(fd, s->b, strlen(s->b));
            close(fd);
        }
        break;
    case DO_MKDIR: o->status = RESULT(mkdir(s->a, s->mode)); break;
    case DO_RMDIR: o->status = RESULT(rmdir(s->a)); break;
    case DO_UNLINK: o->status = RESULT(unlink(s->a)); break;
    case DO_RENAME: o->status = RESULT(renameat2(AT_FDCWD, s->a, AT_FDCWD, s->b, s->flags)); break;
    case DO_LINK: o->status = RESULT(linkat(AT_FDCWD, s->a, AT_FDCWD, s->b, s->flags & 1 ? AT_SYMLINK_FOLLOW : 0)); break;
    case DO_SYMLINK: o->status = RESULT(symlink(s->a, s->b)); break;
    case DO_CHMOD: o->status = RESULT(chmod(s->a, s->mode)); break;
    case DO_CHOWN: o->status = RESULT(chown(s->a, s->flags & 1 ? 1000 : UINT32_MAX, s->flags & 2 ? 1000 : UINT32_MAX)); break;
    case DO_TRUNCATE: o->status = RESULT(truncate(s->a, s->flags)); break;
    case DO_STAT:
    case DO_LSTAT:
        o->status = RESULT(s->op == DO_STAT ? stat(s->a, &st) : lstat(s->a, &st));
        if (o->status == 0) {
            o->mode = st.st_mode;
            o->uid = st.st_uid;
            o->gid = st.st_gid;
            o->size = S_ISDIR(st.st_mode) ? 0 : st.st_size;
        }
        break;
    case DO_ACCESS: o->status = RESULT(faccessat(AT_FDCWD, s->a, (int)s->flags & 7, AT_EACCESS)); break;
    case DO_READLINK:
        o->status = (int)readlink(s->a, o->text, sizeof(o->text) - 1);
        if (o->status < 0)
            o->status = -errno;
        break;
    case DO_LIST: {
        DIR *dir = opendir(s->a);
        o->status = dir ? 0 : -errno;
        if (dir) {
            struct dirent *entry;
            while ((entry = readdir(dir)))
                names_add(&names, entry->d_name, entry->d_type);
            closedir(dir);
            names_text(&names, o->text, sizeof(o->text));
        }
        break;
    }
    case DO_READ:
        fd = open(s->a, O_RDONLY);
        o->status = fd < 0 ? -errno : (int)read(fd, o->text, sizeof(o->text) - 1);
        if (fd >= 0) {
            if (o->status < 0)
                o->status = -errno;
            close(fd);
        }
        break;
    case DO_MKNOD: o->status = RESULT(mknod(s->a, S_IFREG | (s->mode & 0777), 0)); break;
    }
    check(creds_apply(NULL) == 0);
    creds_drop(creds);
}

/* Where we may differ, and the plain tree is then left as it was: renames of directories of the image; and which of several
 * true errors comes first. */
static bool allowed(const struct step *s, int dc, int host) { return s->op == DO_RENAME && dc == -EXDEV && host != 0; }

static void compare_trees(const char *path, unsigned node) {
    struct step s = {.op = DO_LIST, .node = node};
    struct outcome ours, theirs;
    struct names names = {0};
    snprintf(s.a, sizeof(s.a), "%s", path);
    dc_step(&s, &ours);
    host_step(&s, &theirs);
    if (strcmp(ours.text, theirs.text) != 0 || ours.status != theirs.status)
        die("directory %s: %d [%s], host %d [%s]", path, ours.status, ours.text, theirs.status, theirs.text);
    DIR *dir = opendir(path);
    check(dir != NULL);
    struct dirent *entry;
    while ((entry = readdir(dir)))
        names_add(&names, entry->d_name, entry->d_type);
    closedir(dir);
    for (unsigned i = 0; i < names.count; i++) {
        const char *name = names.entry[i].name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        struct step one = {.op = DO_LSTAT, .node = node};
        snprintf(one.a, sizeof(one.a), "%s/%s", strcmp(path, "/") ? path : "", name);
        for (unsigned op = 0; op < 3; op++) {
            one.op = op == 0 ? DO_LSTAT : op == 1 ? DO_READLINK : DO_READ;
            if (op == 2 && names.entry[i].type != DT_REG)
                continue;
            dc_step(&one, &ours);
            host_step(&one, &theirs);
            if (memcmp(&ours, &theirs, sizeof(ours)) != 0)
                die("%s of %s: %d %o %u:%u %lld [%s], host %d %o %u:%u %lld [%s]", op_names[one.op], one.a, ours.status, ours.mode,
                         ours.uid, ours.gid, (long long)ours.size, ours.text, theirs.status, theirs.mode, theirs.uid, theirs.gid,
                         (long long)theirs.size, theirs.text);
        }
        if (names.entry[i].type == DT_DIR && strlen(one.a) < 40)
            compare_trees(one.a, node);
    }
}

static void run_model(unsigned seed, unsigned nodes, unsigned steps) {
    rng = seed;
    fake_seed(nodes > 1 ? seed : 0);
    for (unsigned i = 0; i < steps; i++) {
        struct step s;
        struct outcome ours, theirs;
        random_step(&s, nodes);
        dc_step(&s, &ours);
        if (s.op == DO_RENAME && ours.status == -EXDEV)
            continue;
        host_step(&s, &theirs);
        if (memcmp(&ours, &theirs, sizeof(ours)) != 0 && !allowed(&s, ours.status, theirs.status))
            die("seed %u step %u: node %u uid %u %s %s %s flags %o mode %o: %d %o %u:%u %lld [%s], host %d %o %u:%u %lld [%s]", seed, i,
                     s.node + 1, uids[s.who], op_names[s.op], s.a, s.b, s.flags, s.mode, ours.status, ours.mode, ours.uid, ours.gid,
                     (long long)ours.size, ours.text, theirs.status, theirs.mode, theirs.uid, theirs.gid, (long long)theirs.size, theirs.text);
        struct step look = {.op = draw(2) ? DO_STAT : DO_LSTAT, .who = draw(2), .node = draw(nodes)};
        random_path(look.a); /* dc_stat compares what the table of names says */
        dc_step(&look, &ours);
        if (i % 100 == 99)
            compare_trees("/", draw(nodes));
        if (nodes == 1 && i % 400 == 399) { /* a new server finds what the old one left */
            fs_module.stop(&vos[0]);
            check(fs_module.start(&vos[0]) == 0);
            for (unsigned w = 0; w < 2; w++)
                fake_process(&vos[0], guests[0][w].pid, uids[w], uids[w]);
            compare_trees("/", 0);
        }
    }
    for (unsigned n = 0; n < nodes; n++)
        compare_trees("/", n);
    if (dc_names_answers < steps / 4)
        die("seed %u: the table of names had an answer only %u times in %u steps", seed, dc_names_answers, steps);
}

/* In a child, since the root directory is changed for good. */
static void in_child(unsigned seed, unsigned nodes, unsigned steps) {
    char base[SCRATCH_PATH_MAX];
    scratch_directory(base);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        char path[3][128];
        static const char *parts[] = {"image", "upper", "plain"};
        for (unsigned i = 0; i < 3; i++) {
            snprintf(path[i], sizeof(path[i]), "%s/%s", base, parts[i]);
            mkdir(path[i], 0755);
            chmod(path[i], 0755);
        }
        make_sample_tree(path[0]);
        make_sample_tree(path[2]);
        memset(vos, 0, sizeof(vos));
        fake_start(vos, nodes, path[0], path[1]);
        for (unsigned n = 0; n < nodes; n++)
            for (unsigned w = 0; w < 2; w++) {
                guests[n][w] = (struct guest){&vos[n], 100 + n * 10 + w};
                fake_process(&vos[n], guests[n][w].pid, uids[w], uids[w]);
            }
        int back = open("/", O_RDONLY | O_DIRECTORY);
        if (chroot(path[2]) < 0 || chdir("/") < 0)
            _exit(3);
        run_model(seed, nodes, steps);
        fake_stop(vos, nodes);
        if (fchdir(back) < 0 || chroot(".") < 0)
            _exit(4);
        remove_tree(base);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("seed %u with %u nodes: status %x", seed, nodes, status);
}

static void test_one_node(void **state) {
    for (unsigned seed = 1; seed <= 12; seed++)
        in_child(seed, 1, 1500);
}

static void test_three_nodes(void **state) {
    for (unsigned seed = 101; seed <= 112; seed++)
        in_child(seed, 3, 1500);
}

int main(int argc, char **argv) {
    if (geteuid() != 0)
        return 77;
    if (argc == 4) { /* one seed, to look at */
        in_child((unsigned)atoi(argv[1]), (unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_node), cmocka_unit_test(test_three_nodes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
