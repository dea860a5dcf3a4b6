/* options, and the calls by which the emulator loads and leaves the plugin */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "recorder.h"

#define EXPORT __attribute__((visibility("default")))

/* the interface that the plugin claims to be made for; what is used of it is in all, but an emulator refuses a version
   newer than its own and one older than it supports: up to QEMU 8.2 it takes 1, from 9.0 on 2 */
EXPORT int qemu_plugin_version = 1;

__attribute__((constructor)) static void choose_version(void)
{
    if (dlsym(RTLD_DEFAULT, "qemu_plugin_scoreboard_new"))
        qemu_plugin_version = 2;
}

static void vcpu_begins(uint64_t id, unsigned vcpu)
{
    (void)id;
    if (vcpu >= VCPU_ROOM || !stream_unborn(vcpu)) {
        note("lost", "a thread could not be recorded: no memory");
        abort();
    }
}

static void vcpu_ends(uint64_t id, unsigned vcpu)
{
    (void)id;
    pthread_mutex_lock(&lock);
    if (vcpu < VCPU_ROOM && streams[vcpu])
        stream_close(streams[vcpu]);
    pthread_mutex_unlock(&lock);
}

static bool describe_process(const char *event, int parent)
{
    char path[OWN_ROOM], program[PATH_ROOM];
    process = create_numbered("process", path);
    if (process < 0 || !notes_begin(path)) {
        process = -1;
        return false;
    }
    note("pid", "%ld", (long)getpid());
    note("parent", "%d", parent);
    note("event", "%s", event);
    note("mode", "%d", mode64 ? 64 : 32);
    exec_own_path(program);
    note("program", "%s", program);
    if (!strcmp(event, "fork"))
        note("guest_base", "%" PRIx64, guest_offset);
    return true;
}

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
    effects_lock_for_fork();
}

static void after_fork_parent(void)
{
    effects_unlock_after_fork();
    pthread_mutex_unlock(&lock);
}

/* the child records into files of its own; its parent's are never touched */
static void after_fork_child(void)
{
    int parent = process;
    effects_unlock_after_fork();
    pthread_mutex_unlock(&lock);
    effects_fork();
    if (this_vcpu < 0 || process < 0)
        return;
    bool good = describe_process("fork", parent);
    stream_fork((unsigned)this_vcpu);
    if (!good) {
        /* what is mapped are still its parent's notes */
        process = parent;
        note("lost", "a forked child (process id %ld) and all that it started: no files could be made for it",
             (long)getpid());
        process = -1;
        code_abandon();
        if (streams[this_vcpu])
            streams[this_vcpu]->previous = &state_lost;
        return;
    }
    code_fork();
    map_fork(parent);
}

static bool take_option(const char *option)
{
    const char *value = strchr(option, '=');
    if (!value)
        return false;
    size_t size = (size_t)(value++ - option);
    struct {
        const char *name;
        char *to;
        size_t room;
    } texts[] = {
        {"dir", options.dir, sizeof options.dir},          {"qemu64", options.qemu64, sizeof options.qemu64},
        {"qemu32", options.qemu32, sizeof options.qemu32}, {"cpu64", options.cpu64, sizeof options.cpu64},
        {"cpu32", options.cpu32, sizeof options.cpu32},    {"keeper", options.keeper, sizeof options.keeper},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strlen(texts[i].name) == size && !memcmp(texts[i].name, option, size))
            return (size_t)snprintf(texts[i].to, texts[i].room, "%s", value) < texts[i].room;
    if (!strncmp(option, "start=", 6)) {
        options.start_open = !strcmp(value, "open");
        return options.start_open || !strcmp(value, "exec");
    }
    char *end;
    long long number = strtoll(value, &end, 0);
    if (*end || end == value) {
        /* the emulator turns 0 and 1 of a switch into words in some versions */
        if (!strcmp(value, "on") || !strcmp(value, "off"))
            number = !strcmp(value, "on");
        else
            return false;
    }
    if (!strncmp(option, "dev=", 4))
        options.dev = strtoull(value, NULL, 0);
    else if (!strncmp(option, "ino=", 4))
        options.ino = strtoull(value, NULL, 0);
    else if (!strncmp(option, "max=", 4))
        options.max = number > 0 ? (uint64_t)number : 0;
    else if (!strncmp(option, "log=", 4))
        options.log = number;
    else if (!strncmp(option, "check=", 6))
        options.check = number;
    else if (!strncmp(option, "parent=", 7))
        options.parent = (int)number;
    else if (!strncmp(option, "key=", 4))
        options.key = (int)number;
    else if (!strncmp(option, "memory=", 7))
        options.memory = number > 0 ? (uint64_t)number : 0;
    else if (!strncmp(option, "processes=", 10))
        options.processes = number > 0 ? (uint64_t)number : 0;
    else
        return false;
    return true;
}

/* here, as a limit of processes set outside would count all that the user runs; what is started inherits them */
static void set_limits(void)
{
    struct rlimit data = {options.memory, options.memory}, processes = {options.processes, options.processes};
    if (options.memory)
        setrlimit(RLIMIT_DATA, &data);
    if (options.processes)
        setrlimit(RLIMIT_NPROC, &processes);
}

/* the way to the work folder; false where there is none */
static bool reach_folder(void)
{
    char real[PATH_ROOM];
    if (options.keeper[0]) {
        strcpy(options.dir, "kept");
        return keeper_take_key(options.key);
    }
    if (!options.dir[0] || !realpath(options.dir, real) || strlen(real) >= sizeof options.dir)
        return false;
    strcpy(options.dir, real);
    return true;
}

static int refuse(const char *why)
{
    fprintf(stderr, "recorder: %s\n", why);
    return 1;
}

EXPORT int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (!take_option(argv[i])) {
            fprintf(stderr, "recorder: bad option %s\n", argv[i]);
            return 1;
        }
    interface_version = info->version.cur;
    if (interface_version > NEWEST_INTERFACE)
        return refuse("this build of QEMU is too new: take 6.0 to 10.2");
    mode64 = !strcmp(info->target_name, "x86_64");
    if (info->system_emulation || (!mode64 && strcmp(info->target_name, "i386") != 0))
        return refuse("only for qemu-x86_64 and qemu-i386");
    walk_regions = (int (*)(void *, region_callback))dlsym(RTLD_DEFAULT, "walk_memory_regions");
    static const char *const needed[] = {"guest_base", "thread_cpu", "exec_path"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!dlsym(RTLD_DEFAULT, needed[i]))
            walk_regions = NULL;
    if (!walk_regions)
        return refuse("this build of QEMU hides its page table: link it with --export-dynamic");
    if (options.check) {
        puts("recorder: fits");
        fflush(stdout);
        _exit(0);
    }
    if (!reach_folder())
        return refuse("the work folder dir= is missing or its path is too long, or its keeper has no key");
    set_limits();
    Dl_info self;
    if (!dladdr((void *)qemu_plugin_install, &self) || !realpath(self.dli_fname, options.plugin))
        return refuse("the plugin's own path cannot be found");
    if (!describe_process(options.parent < 0 ? "start" : "exec", options.parent) || !code_begin())
        return refuse("the work folder cannot be written");
    if (!kill_hook())
        note("lost", "the last instructions before a deadly signal: no way into this build of QEMU");
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
    atomic_store(&started, !options.start_open);
    qemu_plugin_register_vcpu_init_cb(id, vcpu_begins);
    qemu_plugin_register_vcpu_exit_cb(id, vcpu_ends);
    qemu_plugin_register_vcpu_tb_trans_cb(id, block_translated);
    qemu_plugin_register_vcpu_syscall_cb(id, syscall_enter);
    qemu_plugin_register_vcpu_syscall_ret_cb(id, syscall_leave);
    return 0;
}
