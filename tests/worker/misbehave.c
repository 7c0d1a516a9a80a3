/* SPDX-License-Identifier: Apache-2.0 */
/*
 * misbehave.c -- a worker for tests that does on request what no worker should. Test-only.
 *
 * It is a runtime on the worker library, so its walls are those of every worker. Installed under
 * another worker's name in a copy of the tree it takes that one's place.
 *
 * The model is a text file; its first line is what happens at load: "ok", "fail WORDS", "exit N",
 * "segv", "hang", "flood BYTES", "alloc MIB", "lie-page FIELD VALUE" or "lie-model FIELD VALUE"
 * (told just before READY). Input `command` and output `said` are BYTES [-1]: one element, one
 * command of the table below with one argument. What the walls answer (an errno's name, or what was
 * got) is said; what ends the process is not answered.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "runtime/answer.h"
#include "runtime/runtime.h"
#include "runtime/worker.h"
#include "worker/misbehave.h"

struct runtime_model {
    char file[256];
};
static char first_line[512]; /* of the model */

void say_result(struct speech *speech, long result)
{
    if (result < 0)
        SAY(speech, "%s", strerrorname_np(errno));
    else
        SAY(speech, "%ld", result);
}

/* ---- what the walls stand against ------------------------------------------------------------ */

static void do_open(struct speech *speech)
{
    int fd = open(speech->argument, O_RDONLY | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    say_result(speech, fd < 0 ? -1 : 0);
}

static void do_write_model(struct speech *speech)
{
    say_result(speech, open(speech->argument, O_WRONLY | O_TRUNC | O_CLOEXEC));
}

static void do_create(struct speech *speech)
{
    say_result(speech, open(speech->argument, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
}

static void do_draw(struct speech *speech)
{
    SAY(speech, "%d %ld %ld", rand(), random(), lrand48());
}

static void do_socket(struct speech *speech)
{
    say_result(speech, socket(AF_INET, SOCK_STREAM, 0));
}

static void do_fork(struct speech *speech)
{
    say_result(speech, syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}

static void do_clone3(struct speech *speech)
{
    say_result(speech, syscall(SYS_clone3, NULL, 0));
}

static void do_exec(struct speech *speech)
{
    char *const none[] = { NULL };

    say_result(speech, execve("/bin/true", none, none));
}

static void do_kill(struct speech *speech)
{
    say_result(speech, kill((pid_t)atol(speech->argument), SIGKILL));
}

static void do_tgkill(struct speech *speech)
{
    pid_t pid = (pid_t)atol(speech->argument);

    say_result(speech, syscall(SYS_tgkill, pid, pid, SIGTERM));
}

/* "own-pipe PID SIGNAL" (0: SIGIO): the owner of a pipe is signalled as bytes come, by the kernel,
 * in the name of who said who that is. Whether it was, is not seen here. */
static void do_own_pipe(struct speech *speech)
{
    char *rest = speech->argument;
    long pid = strtol(rest, &rest, 10), number = strtol(rest, NULL, 10);
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0 || fcntl(fds[0], F_SETOWN, pid) < 0 ||
        fcntl(fds[0], F_SETSIG, number) < 0 || fcntl(fds[0], F_SETFL, O_ASYNC) < 0 ||
        write(fds[1], "x", 1) != 1)
        say_result(speech, -1);
    else
        say_result(speech, 0);
}

static void do_ptrace(struct speech *speech)
{
    say_result(speech, syscall(SYS_ptrace, 0, 0, 0, 0));
}

static void do_uring(struct speech *speech)
{
    say_result(speech, syscall(SYS_io_uring_setup, 1, NULL));
}

static void do_mmap_exec(struct speech *speech)
{
    say_result(speech, mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                            0) == MAP_FAILED
                           ? -1
                           : 0);
}

static void do_mmap_shared(struct speech *speech)
{
    say_result(speech, mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                            0) == MAP_FAILED
                           ? -1
                           : 0);
}

static void do_setfl(struct speech *speech)
{
    say_result(speech, fcntl(STDERR_FILENO, F_SETFL, 0));
}

static void do_prlimit(struct speech *speech)
{
    struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

    say_result(speech, prlimit(0, RLIMIT_AS, &limit, NULL));
}

static void do_alloc(struct speech *speech)
{
    size_t bytes = (size_t)atol(speech->argument) << 20;
    volatile char *memory = malloc(bytes);

    if (!memory) {
        say_result(speech, -1);
        return;
    }
    for (size_t i = 0; i < bytes; i += 4096)
        memory[i] = 1;
    SAY(speech, "%zu", bytes);
    free((void *)(uintptr_t)memory);
}

static void do_keep(struct speech *speech)
{
    size_t bytes = (size_t)atol(speech->argument) << 20;
    volatile char *memory = malloc(bytes);

    for (size_t i = 0; memory && i < bytes; i += 4096)
        memory[i] = 1;
    say_result(speech, memory ? 0 : -1);
}

static void do_environ(struct speech *speech)
{
    SAY(speech, "%s", environ && environ[0] ? environ[0] : "");
}

static void do_descriptors(struct speech *speech)
{
    size_t at = 0;

    for (int fd = 0; fd < 4096; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            at += (size_t)snprintf(speech->text + at, sizeof speech->text - at, "%d ", fd);
    }
}

static void do_getuid(struct speech *speech)
{
    say_result(speech, (long)syscall(SYS_getuid));
}

static void do_write_input(struct speech *speech)
{
    *(volatile char *)(uintptr_t)speech->job->block = 1;
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void do_segv(struct speech *speech)
{
    volatile char *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)speech;
    nowhere[8] = 1;
}

static int overflow(volatile int depth)
{
    volatile char room[4096];

    room[depth % 4096] = 1;
    return depth == INT32_MAX ? 0 : overflow(depth + 1) + room[0];
}

static void do_overflow(struct speech *speech)
{
    SAY(speech, "%d", overflow(0));
}

static void do_abort(struct speech *speech)
{
    (void)speech;
    abort();
}

static void do_exit(struct speech *speech)
{
    _exit(atoi(speech->argument));
}

static void do_hang(struct speech *speech)
{
    (void)speech;
    for (;;)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ 3600, 0 }, NULL);
}

static void do_sleep(struct speech *speech)
{
    long ms = atol(speech->argument);

    clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ ms / 1000, ms % 1000 * 1'000'000 },
                    NULL);
    SAY(speech, "%ld", ms);
}

static void flood(long bytes)
{
    static const char line[] = "a worker that writes and writes \x1b[31m\n";

    for (long at = 0; at < bytes; at += (long)sizeof line - 1)
        (void)!write(STDERR_FILENO, line, sizeof line - 1);
}

static void do_flood(struct speech *speech)
{
    flood(atol(speech->argument));
    SAY(speech, "%s", speech->argument);
}

/* Children that stay, as many as there may be. They end with the replica. */
static void do_forks(struct speech *speech)
{
    long most = atol(speech->argument), made = 0;

    for (; made < most; made++) {
        pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (pid < 0)
            break;
        if (pid == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;)
                pause();
        }
    }
    SAY(speech, "%ld", made);
}

static void *wait_for_ever(void *nothing)
{
    for (;;)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ 3600, 0 }, NULL);
    return nothing;
}

static void do_threads(struct speech *speech)
{
    long most = atol(speech->argument), made = 0;
    pthread_t thread;

    while (made < most && pthread_create(&thread, NULL, wait_for_ever, NULL) == 0)
        made++;
    SAY(speech, "%ld", made);
}

/* Its model, again and again, and never closed. */
static void do_opens(struct speech *speech)
{
    long most = atol(speech->argument), made = 0;

    while (made < most && open("model", O_RDONLY | O_CLOEXEC) >= 0)
        made++;
    SAY(speech, "%ld", made);
}

static void do_echo(struct speech *speech)
{
    SAY(speech, "%s", speech->argument);
}

static const struct command commands[] = {
    { "echo", do_echo, false },
    { "open", do_open, false },
    { "write-model", do_write_model, false },
    { "create", do_create, false },
    { "draw", do_draw, false },
    { "socket", do_socket, false },
    { "fork", do_fork, false },
    { "clone3", do_clone3, false },
    { "exec", do_exec, false },
    { "kill", do_kill, false },
    { "tgkill", do_tgkill, false },
    { "own-pipe", do_own_pipe, false },
    { "ptrace", do_ptrace, false },
    { "uring", do_uring, false },
    { "mmap-exec", do_mmap_exec, false },
    { "mmap-shared", do_mmap_shared, false },
    { "setfl", do_setfl, false },
    { "prlimit", do_prlimit, false },
    { "alloc", do_alloc, false },
    { "keep", do_keep, false },
    { "environ", do_environ, false },
    { "descriptors", do_descriptors, false },
    { "getuid", do_getuid, false },
    { "write-input", do_write_input, false },
    { "segv", do_segv, false },
    { "overflow", do_overflow, false },
    { "abort", do_abort, false },
    { "exit", do_exit, false },
    { "hang", do_hang, false },
    { "sleep", do_sleep, false },
    { "flood", do_flood, false },
    { "forks", do_forks, false },
    { "threads", do_threads, false },
    { "opens", do_opens, false },
};

/* ---- finding a command ----------------------------------------------------------------------- */

static const struct command *find(const struct command *rows, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    }
    return NULL;
}

static const struct command *find_command(const char *name)
{
    const struct command *command = find(commands, sizeof commands / sizeof *commands, name);

    command = command ? command : find(lies, lie_count, name);
    return command ? command : find(calls, call_count, name);
}

/* ---- the runtime ----------------------------------------------------------------------------- */

static int prepare(const char *folder, char *library, size_t room, struct err *err)
{
    (void)folder;
    (void)err;
    (void)snprintf(library, room, "misbehave 1");
    return 0;
}

static int at_load(const char *line, struct err *err)
{
    const char *argument = strchr(line, ' ');

    argument = argument ? argument + 1 : "";
    if (strncmp(line, "fail", 4) == 0)
        return err_set(err, ERR_INTERNAL, "%s", argument);
    if (strncmp(line, "exit", 4) == 0)
        _exit(atoi(argument));
    if (strncmp(line, "segv", 4) == 0)
        do_segv(NULL);
    if (strncmp(line, "hang", 4) == 0)
        do_hang(NULL);
    if (strncmp(line, "flood", 5) == 0)
        flood(atol(argument));
    if (strncmp(line, "alloc", 5) == 0) {
        size_t bytes = (size_t)atol(argument) << 20;
        void *memory = malloc(bytes);
        if (!memory)
            return err_set(err, ERR_TOO_LARGE, "out of memory");
        memset(memory, 1, bytes);
        free(memory);
    }
    return 0;
}

static int load(const struct runtime_load *request, struct model_writer *writer,
                struct runtime_model **ret_model, struct err *err)
{
    static struct runtime_model model;
    int fd = open(request->file, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, first_line, sizeof first_line - 1) < 0)
        return err_set(err, ERR_NOT_FOUND, "opening '%s': %s", request->file, strerror(errno));
    close(fd);
    first_line[strcspn(first_line, "\n")] = 0;
    int r = at_load(first_line, err);
    if (r < 0)
        return r;
    (void)snprintf(model.file, sizeof model.file, "%s", request->file);

    struct model_io io = {
        .name = "command", .datatype = PERIGEE_BYTES, .rank = 1, .dims = { -1 }
    };
    r = model_platform(writer, "misbehave", err);
    if (r == 0)
        r = model_input(writer, &io, err);
    io.name = "said";
    if (r == 0)
        r = model_output(writer, &io, err);
    *ret_model = &model;
    return r;
}

static int warm(struct runtime_model *model, struct err *err)
{
    (void)model;
    return err_set(err, ERR_NOT_SUPPORTED, "nothing to warm");
}

static void before_ready(char *region)
{
    if (strncmp(first_line, "lie-", 4) == 0 && !lie_before_ready(first_line, region))
        _exit(99); /* the test hears of it: what it asked for was not done */
}

static void answer_text(struct runtime_job *job, const char *text)
{
    static const int64_t dims[] = { 1 };
    uint32_t size = (uint32_t)strlen(text);
    char *place = answer_place(job->answer, size + sizeof size);

    if (!place) {
        answer_too_large(job->answer, job, "said", size);
        return;
    }
    memcpy(place, &size, sizeof size);
    memcpy(place + sizeof size, text, size);
    answer_add(job->answer, 0, PERIGEE_BYTES, dims, 1, place, size + sizeof size);
}

static void run(struct runtime_model *model, struct runtime_job *const *jobs, size_t count)
{
    struct runtime_job *job = jobs[0];
    (void)model;
    (void)count;
    struct speech *speech = mem_zalloc(sizeof *speech);
    const struct perigee_tensor *input = &job->inputs[0];
    char command[512] = {};
    uint32_t size = 0;
    bool answered = false;

    if (input->bytes >= sizeof size)
        memcpy(&size, job->block + input->offset, sizeof size);
    if (size >= sizeof command || size > input->bytes)
        size = 0;
    memcpy(command, job->block + input->offset + sizeof size, size);
    char *argument = strchr(command, ' ');
    if (argument)
        *argument++ = 0;
    speech->job = job;
    speech->argument = argument ? argument : command + strlen(command);
    SAY(speech, "no such command");
    const struct command *found = find_command(command);
    if (found) {
        found->run(speech);
        answered = found->answers;
    }
    if (!answered)
        answer_text(job, speech->text);
    free(speech);
}

int main(int argc, char **argv)
{
    /* The name under which it was installed. */
    static char name[16];
    char path[4096] = {};
    struct runtime misbehave = {
        .name = name,
        .walls_left_out = WALLS_LEFT_OUT,
        .prepare = prepare,
        .load = load,
        .warm = warm,
        .before_ready = before_ready,
        .run = run,
    };

    if (readlink("/proc/self/exe", path, sizeof path - 1) < 0)
        return 1;
    const char *dash = strrchr(path, '-');
    (void)snprintf(name, sizeof name, "%.15s", dash ? dash + 1 : "misbehave");
    return worker_main(argc, argv, &misbehave);
}
