/* SPDX-License-Identifier: Apache-2.0 */
/*
 * misbehave.c -- a worker for tests that does on request what no worker should. Test-only.
 *
 * It is a runtime on the worker library, so its walls are those of every worker. Installed under
 * another worker's name in a copy of the tree it takes that one's place.
 *
 * The model is a text file; its first line is what happens at load: "ok", "fail WORDS", "exit N",
 * "segv", "hang", "flood BYTES", "alloc MIB", or "lie-model". Input `command` and output `said` are
 * BYTES [-1]: one element, one command of the table below with one argument. What the walls answer
 * (an errno's name, or what was got) is said; what ends the process is not answered.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "contract/ring.h"
#include "runtime/answer.h"
#include "runtime/runtime.h"
#include "runtime/worker.h"

struct runtime_model {
    char file[256];
};

struct speech {
    struct runtime_job *job;
    const char *argument;
    char text[8192];
};

#define SAY(speech, ...) ((void)snprintf((speech)->text, sizeof(speech)->text, __VA_ARGS__))

static void say_result(struct speech *speech, long result)
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

static void do_echo(struct speech *speech)
{
    SAY(speech, "%s", speech->argument);
}

/* ---- lies: what a gateway must not believe --------------------------------------------------- */

/* The region begins with this process's status page, below the slot. */
static char *region_of(const struct runtime_job *job)
{
    char *page = (char *)((uintptr_t)job->answer->slot & ~(uintptr_t)4095);

    while (((struct perigee_status *)(void *)page)->magic != PERIGEE_WORKER_MAGIC ||
           ((struct perigee_status *)(void *)page)->pid != getpid())
        page -= 4096;
    return page;
}

/* The lane in use: the one whose submissions were taken last. */
static struct perigee_completion_lane *lane_of(const struct runtime_job *job)
{
    struct perigee_completion_lane *lanes =
        (struct perigee_completion_lane *)(void *)(region_of(job) + PERIGEE_COMPLETIONS_OFFSET);
    size_t at = 0;

    for (size_t i = 0; i < PERIGEE_LANES_MAX; i++) {
        if (atomic_load(&lanes[i].taken) > atomic_load(&lanes[i].head))
            at = i;
    }
    return &lanes[at];
}

static void publish(const struct runtime_job *job, const struct perigee_completion *completion)
{
    struct perigee_completion_lane *lane = lane_of(job);
    uint64_t head = atomic_load(&lane->head);

    completion_publish(lane, &head, completion);
}

/* The worker library would repair the index with the true answer: the gateway is to look before. */
static void show_lie(void)
{
    for (int fd = 3; fd < 64; fd++)
        (void)!write(fd, "", 1);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ 0, 200'000'000 }, NULL);
}

static void do_lie_ticket(struct speech *speech)
{
    publish(speech->job,
            &(struct perigee_completion){ .ticket = 0x7fffffff00000001, .batch_rows = 1 });
    show_lie();
    SAY(speech, "done");
}

static void do_lie_jump(struct speech *speech)
{
    atomic_fetch_add(&lane_of(speech->job)->head, 1'000'000);
    show_lie();
    SAY(speech, "done");
}

static void do_lie_phase(struct speech *speech)
{
    struct perigee_status *status = (struct perigee_status *)(void *)region_of(speech->job);

    atomic_store(&status->phase, 77);
    memset(status->reason, 0xff, sizeof status->reason);
    SAY(speech, "done");
}

static void do_lie_offset(struct speech *speech)
{
    static const int64_t dims[] = { 1 };
    struct answer *answer = speech->job->answer;

    answer_add(answer, 0, PERIGEE_BYTES, dims, 1, answer->slot + answer->slot_bytes * 4, 64);
}

static void do_lie_shape(struct speech *speech)
{
    static const int64_t dims[] = { INT64_C(1) << 40 };
    struct answer *answer = speech->job->answer;

    answer_add(answer, 0, PERIGEE_BYTES, dims, 1, answer_place(answer, 64), 64);
}

static void do_lie_datatype(struct speech *speech)
{
    static const int64_t dims[] = { 16 };
    struct answer *answer = speech->job->answer;

    answer_add(answer, 0, PERIGEE_FP32, dims, 1, answer_place(answer, 64), 64);
}

static void do_lie_length(struct speech *speech)
{
    static const int64_t dims[] = { 1 };
    struct answer *answer = speech->job->answer;
    char *place = answer_place(answer, 64);

    memset(place, 0xff, 64);
    answer_add(answer, 0, PERIGEE_BYTES, dims, 1, place, 64);
}

static void do_lie_count(struct speech *speech)
{
    speech->job->answer->output_count = PERIGEE_TENSORS_MAX;
}

static void do_lie_status(struct speech *speech)
{
    speech->job->status = 99;
}

/* A row: what it does; whether it has written the answer itself. */
static const struct {
    const char *name;
    void (*run)(struct speech *speech);
    bool answers;
} commands[] = {
    { "echo", do_echo, false },
    { "open", do_open, false },
    { "write-model", do_write_model, false },
    { "create", do_create, false },
    { "socket", do_socket, false },
    { "fork", do_fork, false },
    { "clone3", do_clone3, false },
    { "exec", do_exec, false },
    { "kill", do_kill, false },
    { "tgkill", do_tgkill, false },
    { "ptrace", do_ptrace, false },
    { "uring", do_uring, false },
    { "mmap-exec", do_mmap_exec, false },
    { "mmap-shared", do_mmap_shared, false },
    { "setfl", do_setfl, false },
    { "prlimit", do_prlimit, false },
    { "alloc", do_alloc, false },
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
    { "lie-ticket", do_lie_ticket, false },
    { "lie-jump", do_lie_jump, false },
    { "lie-phase", do_lie_phase, false },
    { "lie-offset", do_lie_offset, true },
    { "lie-shape", do_lie_shape, true },
    { "lie-datatype", do_lie_datatype, true },
    { "lie-length", do_lie_length, true },
    { "lie-count", do_lie_count, true },
    { "lie-status", do_lie_status, true },
};

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
    char line[512] = {};
    int fd = open(request->file, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, line, sizeof line - 1) < 0)
        return err_set(err, ERR_NOT_FOUND, "opening '%s': %s", request->file, strerror(errno));
    close(fd);
    line[strcspn(line, "\n")] = 0;
    int r = at_load(line, err);
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
    speech->argument = argument ? argument : "";
    SAY(speech, "no such command");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, command) == 0) {
            commands[i].run(speech);
            answered = commands[i].answers;
        }
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
        .prepare = prepare,
        .load = load,
        .warm = warm,
        .run = run,
    };

    if (readlink("/proc/self/exe", path, sizeof path - 1) < 0)
        return 1;
    const char *dash = strrchr(path, '-');
    (void)snprintf(name, sizeof name, "%.15s", dash ? dash + 1 : "misbehave");
    return worker_main(argc, argv, &misbehave);
}
