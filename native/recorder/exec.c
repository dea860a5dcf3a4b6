/* a program that starts another: the emulator is started in its place, so that recording goes on */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "recorder.h"

/* SCRIPT_DEPTH: as many scripts of scripts as the kernel runs */
enum { LARGEST = 8 << 20, WORD_ROOM = 128 << 10, MOST_WORDS = 1 << 19, SCRIPT_DEPTH = 5, HEAD = 256, SHOWN = 512 };

/* what a call starts */
struct start {
    char path[PATH_ROOM + 64]; /* the program; of scripts, the interpreter of the last one */
    char **words;              /* its name and arguments, from `first` to before `count`, then NULL */
    size_t first, count;
    char **variables; /* its environment, and NULL */
    size_t variable_count;
    const char *engine; /* the emulator for its kind */
};

static _Thread_local bool noted __attribute__((tls_model("initial-exec"))); /* of the call under way */

/* note that what the program starts next will not be recorded, or not run as it would without the recorder */
static void note_why(const char *key, const char *path, const char *why)
{
    noted = true;
    note(key, "%.*s: %s", SHOWN, path, why);
}

/* the call has started nothing */
void exec_failed(void)
{
    if (noted)
        note("stayed", "%s", "");
    noted = false;
}

/* path of the program that this process runs */
void exec_own_path(char *to)
{
    char **path = dlsym(RTLD_DEFAULT, "exec_path");
    if (!path || !*path || !realpath(*path, to))
        snprintf(to, PATH_ROOM, "%s", path && *path ? *path : "?");
}

static void free_words(char **list, size_t count)
{
    for (size_t i = 0; list && i < count; i++)
        free(list[i]);
    free(list);
}

/* a NULL-ended array of strings, copied with `spare` free places before it; NULL when it is unreadable or too long */
static char **words(uint64_t array, size_t spare, size_t *count)
{
    size_t room = 64, used = spare, total = 0;
    char **list = calloc(room, sizeof *list), *text = malloc(WORD_ROOM);
    bool good = list && text;
    while (good && array) {
        uint64_t address;
        good = guest_word(array, &address) && used < MOST_WORDS;
        if (!good || !address)
            break;
        array += mode64 ? 8 : 4;
        long size = guest_string(address, text, WORD_ROOM);
        total += (size_t)size + 1;
        if (size < 0 || total > LARGEST) {
            good = false;
            break;
        }
        if (used + 2 > room) {
            char **more = realloc(list, (room *= 2) * sizeof *list);
            if (!more) {
                good = false;
                break;
            }
            list = more;
        }
        list[used] = strdup(text);
        list[used + 1] = NULL;
        good = list[used++];
    }
    free(text);
    if (!good) {
        free_words(list, used);
        return NULL;
    }
    *count = used;
    return list;
}

/* first bytes of an executable regular file, zeros behind them; -1 when there is none, 1 when it may be run but
   not read */
static int head_of(const char *path, uint8_t *head)
{
    struct stat status;
    memset(head, 0, HEAD + 1);
    if (stat(path, &status) != 0 || !S_ISREG(status.st_mode) || access(path, X_OK) != 0)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 1;
    ssize_t got = read(fd, head, HEAD);
    close(fd);
    return got < 4 ? -1 : 0;
}

static const char *emulator(const uint8_t *head)
{
    Elf32_Ehdr elf;
    memcpy(&elf, head, sizeof elf);
    if (memcmp(head, ELFMAG, SELFMAG) != 0 || (elf.e_type != ET_EXEC && elf.e_type != ET_DYN))
        return NULL;
    if (head[EI_CLASS] == ELFCLASS64 && elf.e_machine == EM_X86_64)
        return options.qemu64;
    if (head[EI_CLASS] == ELFCLASS32 && elf.e_machine == EM_386)
        return options.qemu32;
    return NULL;
}

/* whether the kernel would raise rights for the program; it does not for the emulator, which is started instead */
static bool is_privileged(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return false;
    if ((status.st_mode & S_ISUID && status.st_uid != geteuid()) ||
        ((status.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && status.st_gid != getegid()))
        return true;
    return geteuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0;
}

static char *quoted(char *to, const char *from)
{
    while (*from) {
        if (*from == ',')
            *to++ = ',';
        *to++ = *from++;
    }
    *to = 0;
    return to;
}

/* variables that would act on the emulator itself rather than on the program */
static bool for_loader(const char *variable)
{
    return !strncmp(variable, "LD_", 3) || !strncmp(variable, "QEMU_", 5) || !strncmp(variable, "GLIBC_", 6) ||
           !strncmp(variable, "MALLOC_", 7);
}

/* a path through a descriptor that may be closed when the emulator starts: find its name, or keep it open */
static void outlive(char *path, int fd)
{
    char real[PATH_ROOM];
    struct stat one, other;
    if (realpath(path, real) && stat(path, &one) == 0 && stat(real, &other) == 0 && one.st_dev == other.st_dev &&
        one.st_ino == other.st_ino)
        strcpy(path, real);
    else
        fcntl(fd, F_SETFD, fcntl(fd, F_GETFD) & ~FD_CLOEXEC);
}

/* the program that a call names, as a path by which this process reaches it; false where the call names none */
static bool find_program(struct start *start, int folder, uint64_t path_at, int flags)
{
    char name[PATH_ROOM], own[32], *path = start->path;
    if (guest_string(path_at, name, sizeof name) < 0 || (!name[0] && !(flags & AT_EMPTY_PATH)))
        return false;
    snprintf(own, sizeof own, "/proc/%ld/exe", (long)getpid());
    if (!strcmp(name, "/proc/self/exe") || !strcmp(name, own))
        exec_own_path(path);
    else if (!name[0])
        snprintf(path, sizeof start->path, "/proc/self/fd/%d", folder);
    else if (name[0] == '/' || folder == AT_FDCWD)
        snprintf(path, sizeof start->path, "%s%s", name[0] == '/' || name[0] == '.' ? "" : "./", name);
    else
        snprintf(path, sizeof start->path, "/proc/self/fd/%d/%s", folder, name);
    if (!strncmp(path, "/proc/self/fd/", 14))
        outlive(path, folder);
    return true;
}

static bool copy_words(struct start *start, uint64_t arguments_at, uint64_t environment_at)
{
    /* two free places for each script that names its interpreter */
    start->first = 2 * SCRIPT_DEPTH;
    start->words = words(arguments_at, start->first, &start->count);
    start->variables = words(environment_at, 0, &start->variable_count);
    if (!start->words || !start->variables) {
        note_why("untraced", start->path, "its arguments are too long");
        return false;
    }
    if (start->count == start->first) {
        start->words[start->count++] = strdup(""); /* as the kernel does for a program without a name */
        start->words[start->count] = NULL;
    }
    return true;
}

/* put the interpreter that a script's first line names, and the option it names, before the script and its arguments;
   false where it names none */
static bool take_interpreter(struct start *start, char *line)
{
    char *end = line + strcspn(line, "\n");
    *end = 0;
    while (end > line && (end[-1] == ' ' || end[-1] == '\t'))
        *--end = 0;
    line += strspn(line, " \t");
    size_t size = strcspn(line, " \t");
    char *option = line + size + strspn(line + size, " \t");
    line[size] = 0;
    if (!size)
        return false;
    free(start->words[start->first]);
    start->words[start->first] = strdup(start->path);
    if (*option)
        start->words[--start->first] = strdup(option);
    start->words[--start->first] = strdup(line);
    snprintf(start->path, sizeof start->path, "%s%s", line[0] == '/' || line[0] == '.' ? "" : "./", line);
    return true;
}

/* the emulator for the program, or for the interpreter of the script that it is; false where nothing can be recorded */
static bool find_engine(struct start *start)
{
    uint8_t head[HEAD + 1];
    for (int depth = 0; depth <= SCRIPT_DEPTH; depth++) {
        int readable = head_of(start->path, head);
        if (readable > 0)
            note_why("untraced", start->path, "it may not be read");
        if (readable != 0)
            return false;
        start->engine = emulator(head);
        if (start->engine || memcmp(head, "#!", 2) != 0 || depth == SCRIPT_DEPTH)
            break;
        if (!take_interpreter(start, (char *)head + 2))
            return false;
    }
    const char *why = NULL;
    if (!start->engine)
        why = "it is of no kind that can be recorded";
    else if (!start->engine[0])
        why = "the emulator for its kind is not installed";
    else if (faccessat(AT_FDCWD, options.keeper[0] ? options.keeper : options.dir,
                       options.keeper[0] ? W_OK : W_OK | X_OK, AT_EACCESS) != 0)
        why = "the program that started it had given up its rights";
    if (why)
        note_why("untraced", start->path, why);
    return !why;
}

/* the emulator's option that loads this plugin again, with the same options; the caller frees it */
static char *plugin_option(int key)
{
    static const char *const keys[] = {"dir", "qemu64", "qemu32", "cpu64", "cpu32", "keeper"};
    const char *values[] = {options.dir, options.qemu64, options.qemu32, options.cpu64, options.cpu32, options.keeper};
    char *option = malloc(sizeof options * 2 + 4 * PATH_ROOM);
    if (!option)
        return NULL;
    char *to = quoted(option, options.plugin);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (!values[i][0])
            continue;
        to += sprintf(to, ",%s=", keys[i]);
        to = quoted(to, values[i]);
    }
    sprintf(to, ",start=%s,dev=%llu,ino=%llu,max=%llu,log=%d,parent=%d,key=%d",
            options.start_open && !atomic_load(&started) ? "open" : "exec", (unsigned long long)options.dev,
            (unsigned long long)options.ino, (unsigned long long)options.max, options.log, process, key);
    return option;
}

/* start the emulator with the program; returns only where that fails */
static void execute(const struct start *start)
{
    char *cpu = start->engine == options.qemu64 ? options.cpu64 : options.cpu32;
    int key = options.keeper[0] ? keeper_hand_on() : -1;
    char *plugin = options.keeper[0] && key < 0 ? NULL : plugin_option(key);
    char **all = calloc(start->count + start->variable_count * 2 + 16, sizeof *all);
    char **kept = calloc(start->variable_count + 1, sizeof *kept);
    char why[TEXT_ROOM] = "no memory";
    if (plugin && all && kept) {
        size_t n = 0, k = 0;
        all[n++] = (char *)start->engine;
        all[n++] = "-0";
        all[n++] = start->words[start->first];
        if (cpu[0]) {
            all[n++] = "-cpu";
            all[n++] = cpu;
        }
        all[n++] = "-plugin";
        all[n++] = plugin;
        for (size_t i = 0; i < start->variable_count; i++) {
            char *variable = start->variables[i];
            /* a comma would end the value in the emulator's option */
            if (for_loader(variable) && strchr(variable, '=') && !strchr(variable, ',')) {
                all[n++] = "-E";
                all[n++] = variable;
            } else {
                kept[k++] = variable;
            }
        }
        all[n++] = (char *)start->path;
        for (size_t i = start->first + 1; i < start->count; i++)
            all[n++] = start->words[i];
        if (is_privileged(start->path))
            note_why("unprivileged", start->path, "setuid, setgid or with file capabilities");
        execve(start->engine, all, kept);
        snprintf(why, sizeof why, "the emulator could not be started: %s", strerror(errno));
        exec_failed();
    }
    if (key >= 0)
        close(key);
    note_why("untraced", start->path, why);
    free(plugin);
    free(all);
    free(kept);
}

/* returns only when nothing was started: then the program's own call goes on, and fails by itself */
void exec_follow(int folder, uint64_t path_at, uint64_t arguments_at, uint64_t environment_at, int flags)
{
    struct start start = {.words = NULL};
    noted = false;
    if (process >= 0 && find_program(&start, folder, path_at, flags) &&
        copy_words(&start, arguments_at, environment_at) && find_engine(&start))
        execute(&start);
    free_words(start.words, start.count);
    free_words(start.variables, start.variable_count);
}
