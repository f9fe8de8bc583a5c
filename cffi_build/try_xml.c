/* Load an XML document in a process of its own, and bring back what planning needs of it.
 *
 * libhwloc takes a file for well-meant: one that was damaged, or made to, ends the process in a NULL dereference
 * or an assertion, or takes memory without end (hwloc 2.11: bitmap.c, memattrs.c). A launcher must not die of a
 * file.
 *
 * The process that loads is a grandchild. fork() is the one call after which libhwloc may allocate: glibc holds
 * malloc's locks across it, so that no other thread has left them locked in the copy, and the copy has this thread
 * alone. But a child of fork() dies with SIGCHLD, which a launcher's handler or its waitpid(-1) would take for one
 * of its workers. So between the two is a process that shares this one's memory while the calling thread stands
 * still, as posix_spawn's does (CLONE_VM, CLONE_VFORK), but with no exit signal: no SIGCHLD comes of it, and only a
 * wait with __WALL sees it. It forks, waits, and tells. Its table of signal handlers is its own, and all signals are
 * blocked in it.
 *
 * Nothing of Python runs in either. The heap of this process costs the copying of its page tables (40 ms a
 * gigabyte that it has touched) and no memory. */
#define _GNU_SOURCE
#include "hwnuma.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

enum {
    TEXT = 16 << 20,  /* bytes of what is brought back; a DGX takes 20 kB */
    STACK = 2 << 20,  /* bytes, of both processes */
    MOST_DESCRIPTORS = 1 << 16
};

/* Shared with the grandchild. Pages are taken as they are written. */
struct shared {
    int outcome, code;
    size_t size;
    char bytes[TEXT];
};

struct task {
    const char *document;
    int size, wanted;
    struct shared *shared;
};

static void *take_pages(size_t size, int flags)
{
    return mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static void set_limit(int resource, rlim_t value)
{
    struct rlimit limit = {value, value + 1}; /* CPU seconds: SIGXCPU at the first, SIGKILL at the second */
    setrlimit(resource, &limit);
}

/* The address space of this process, of which the grandchild has a copy; 0 where /proc is not mounted. */
static rlim_t address_space(void)
{
    char text[64];
    rlim_t pages = 0;
    int descriptor = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t size = descriptor < 0 ? 0 : read(descriptor, text, sizeof text);
    for (ssize_t i = 0; i < size && text[i] >= '0' && text[i] <= '9'; i++)
        pages = 10 * pages + (rlim_t) (text[i] - '0');
    if (descriptor >= 0)
        close(descriptor);
    return pages * (rlim_t) sysconf(_SC_PAGESIZE);
}

static void close_descriptors(unsigned first)
{
    struct rlimit limit;
#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, ~0U, 0) == 0)
        return;
#endif
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > MOST_DESCRIPTORS)
        limit.rlim_cur = MOST_DESCRIPTORS;
    for (unsigned descriptor = first; descriptor < limit.rlim_cur; descriptor++)
        close((int) descriptor);
}

/* Give up all that this process has of the one it was copied from: handlers, descriptors, core files, time. */
static void confine(void)
{
    struct itimerval timer = {{0, 0}, {TRIAL_SECONDS, 0}};
    struct sigaction standard;
    sigset_t none;
    rlim_t before = address_space();
    int speaks = getenv("HWLOC_XML_VERBOSE") != NULL; /* whoever sets it wants to read libhwloc's words */
    int null = open("/dev/null", O_RDWR);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 0); /* a core file that is piped to a program has no size limit */
    set_limit(RLIMIT_CORE, 0);
    set_limit(RLIMIT_CPU, TRIAL_SECONDS);
    if (before > 0)
        set_limit(RLIMIT_AS, before + TRIAL_MEGABYTES * 1024UL * 1024UL);
    memset(&standard, 0, sizeof standard);
    standard.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &standard, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
    for (int descriptor = 0; descriptor < 3 - speaks; descriptor++)
        if (dup2(null, descriptor) < 0)
            close(descriptor);
    close_descriptors(3);
}

static void grandchild(const struct task *task)
{
    struct shared *shared = task->shared;
    struct hwnuma_text text;
    hwloc_topology_t topology;
    confine();
    errno = 0;
    topology = hwnuma_new_topology(task->wanted);
    if (topology != NULL && hwloc_topology_set_xmlbuffer(topology, task->document, task->size) == 0
        && hwloc_topology_load(topology) == 0 && hwnuma_copy_out(topology, &text) == 0) {
        if (text.used <= TEXT) {
            memcpy(shared->bytes, text.bytes, text.used);
            shared->size = text.used;
            shared->outcome = TRIAL_LOADED;
        } else {
            shared->outcome = TRIAL_OVER_MEMORY;
        }
    } else {
        shared->code = errno;
        shared->outcome = errno == ENOMEM ? TRIAL_OVER_MEMORY : TRIAL_REFUSED;
    }
    _exit(0);
}

/* Runs in this process's memory, on a stack of its own, while the calling thread stands still. AddressSanitizer would
 * note this function's variables on a stack that it does not know, and find them where other memory is later. */
__attribute__((no_sanitize_address)) static int in_between(void *argument)
{
    struct task *task = argument;
    struct sigaction standard;
    int status;
    pid_t child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    memset(&standard, 0, sizeof standard);
    standard.sa_handler = SIG_DFL; /* where SIGCHLD is ignored, a child's status is lost */
    sigaction(SIGCHLD, &standard, NULL);
    child = fork();
    if (child == 0)
        grandchild(task);
    if (child < 0) {
        task->shared->code = errno;
        _exit(0);
    }
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            _exit(0);
    if (WIFSIGNALED(status)) {
        int number = WTERMSIG(status);
        task->shared->code = number;
        task->shared->outcome = number == SIGALRM || number == SIGXCPU ? TRIAL_OVER_TIME : TRIAL_KILLED;
    }
    _exit(0);
}

/* Start the process in between and wait for it; -1 with errno where it cannot be started. */
static int start(struct task *task)
{
    char *stack = take_pages(STACK, MAP_PRIVATE | MAP_STACK);
    sigset_t all, before;
    pid_t child;
    int error, status;
    if (stack == MAP_FAILED)
        return -1;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    child = clone(in_between, stack + STACK, CLONE_VM | CLONE_VFORK, task);
    if (child < 0 && errno == EINVAL) /* QEMU's emulation of a foreign processor starts no child without an exit signal */
        child = clone(in_between, stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, task);
    error = errno;
    while (child > 0 && waitpid(child, &status, __WALL) < 0 && errno == EINTR)
        ;
    sigprocmask(SIG_SETMASK, &before, NULL);
    munmap(stack, STACK);
    errno = error;
    return child < 0 ? -1 : 0;
}

int hwnuma_try_xml(const char *document, int size, int wanted, struct hwnuma_trial *trial)
{
    struct shared *shared = take_pages(sizeof *shared, MAP_SHARED);
    struct task task = {document, size, wanted, shared};
    memset(trial, 0, sizeof *trial);
    if (shared == MAP_FAILED)
        return -1;
    shared->outcome = TRIAL_NOT_TRIED;
    if (start(&task) < 0)
        shared->code = errno;
    trial->outcome = shared->outcome;
    trial->code = shared->code;
    trial->size = shared->size;
    if (trial->outcome == TRIAL_LOADED && (trial->bytes = malloc(shared->size)) != NULL)
        memcpy(trial->bytes, shared->bytes, shared->size);
    munmap(shared, sizeof *shared);
    if (trial->outcome == TRIAL_NOT_TRIED)
        errno = trial->code;
    return trial->outcome == TRIAL_NOT_TRIED || (trial->outcome == TRIAL_LOADED && trial->bytes == NULL) ? -1 : 0;
}
