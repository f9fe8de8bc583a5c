/* A libcuda.so.1 for tests, and with -DHIP a libamdhip64.so: GPUs from a text file that copy as fast as it says.
 *
 * How long a copy takes depends on the NUMA node that the kernel says the host's page is on (get_mempolicy). A copy
 * from memory that is not pinned, or by a thread that has not chosen a GPU, fails: nobody is to get away with that.
 * HWNUMA_FAKE_CUDA names the description; HWNUMA_FAKE_CUDA_LOG, if set, names a file to which each call appends
 * "PID FUNCTION GPU\n".
 *
 * The description, one statement a line; indentation is free:
 *
 *   hang FUNCTION              the function never returns
 *   crash FUNCTION             the function ends the process
 *   error FUNCTION CODE        the function fails with this CUresult or hipError_t; ahead of the first gpu for all of
 *                              them, after a gpu line for that one
 *   gpu 0000:07:00.0           begins a GPU, with its PCI address
 *   rate NODE MEGABYTES        what the GPU above copies in a second from and to memory of a node, in 1e6 bytes
 *
 * Written from the documentation of both APIs; no part of either is in it.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef HIP
#define NAME(cuda, hip) hip
#else
#define NAME(cuda, hip) cuda
#endif

enum { SUCCESS = 0, INVALID_VALUE = 1, NOT_INITIALIZED = 3, INVALID_DEVICE = 101, NO_CONTEXT = 201 };
enum { MAX_GPUS = 16, MAX_NODES = 64, MAX_RULES = 16, MAX_PINNED = 256, TEXT = 64 };
enum { MPOL_F_NODE = 1, MPOL_F_ADDR = 2, PAGE = 4096 };

struct rule { char word[8], function[TEXT]; int code, gpu; };
struct gpu { char address[TEXT]; double rates[MAX_NODES]; };
struct range { char *start; size_t size; };

static struct gpu gpus[MAX_GPUS];
static struct rule rules[MAX_RULES];
static struct range pinned[MAX_PINNED];
static int gpu_count, rule_count, is_initialized;
static __thread int current = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void broken(const char *line)
{
    fprintf(stderr, "fake CUDA: cannot understand: %s\n", line);
    abort();
}

static void read_description(void)
{
    const char *path = getenv("HWNUMA_FAKE_CUDA");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256];
    if (!file)
        broken(path ? path : "HWNUMA_FAKE_CUDA is not set");
    while (fgets(line, sizeof line, file)) {
        char word[TEXT] = "", name[TEXT] = "";
        double number = 0;
        int found = sscanf(line, "%63s %63s %lf", word, name, &number);
        if (found == 2 && strcmp(word, "gpu") == 0 && gpu_count < MAX_GPUS) {
            strcpy(gpus[gpu_count++].address, name);
        } else if (found == 3 && strcmp(word, "rate") == 0 && gpu_count && atoi(name) < MAX_NODES) {
            gpus[gpu_count - 1].rates[atoi(name)] = number * 1e6;
        } else if (found >= 2 && rule_count < MAX_RULES &&
                   (strcmp(word, "hang") == 0 || strcmp(word, "crash") == 0 || strcmp(word, "error") == 0)) {
            struct rule *rule = &rules[rule_count++];
            strcpy(rule->word, word);
            strcpy(rule->function, name);
            rule->code = (int)number;
            rule->gpu = gpu_count - 1;
        } else {
            broken(line);
        }
    }
    fclose(file);
}

/* What every function begins with: the error that it is to return, or SUCCESS. */
static int enter(const char *function)
{
    const char *path = getenv("HWNUMA_FAKE_CUDA_LOG");
    pthread_mutex_lock(&lock);
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) {
        fprintf(file, "%ld %s %d\n", (long)getpid(), function, current);
        fclose(file);
    }
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < rule_count; i++) {
        struct rule *rule = &rules[i];
        if (strcmp(rule->function, function) != 0 || (rule->gpu >= 0 && rule->gpu != current))
            continue;
        while (strcmp(rule->word, "hang") == 0)
            pause();
        if (strcmp(rule->word, "crash") == 0)
            abort();
        return rule->code;
    }
    return is_initialized ? SUCCESS : NOT_INITIALIZED;
}

int NAME(cuInit, hipInit)(unsigned int flags)
{
    if (!is_initialized)
        read_description();
    is_initialized = 1;
    int code = enter(NAME("cuInit", "hipInit"));
    return code ? code : flags ? INVALID_VALUE : SUCCESS;
}

int NAME(cuDeviceGetCount, hipGetDeviceCount)(int *count)
{
    *count = gpu_count;
    return enter(NAME("cuDeviceGetCount", "hipGetDeviceCount"));
}

/* CUDA's handles are numbers beside the ordinals: nobody may take one for the other. */
enum { HANDLES_FROM = NAME(100, 0) };

static int gpu_of(int handle)
{
    return handle >= HANDLES_FROM && handle < HANDLES_FROM + gpu_count ? handle - HANDLES_FROM : -1;
}

int NAME(cuDeviceGetPCIBusId, hipDeviceGetPCIBusId)(char *address, int size, int device)
{
    int code = enter(NAME("cuDeviceGetPCIBusId", "hipDeviceGetPCIBusId"));
    if (code == SUCCESS && gpu_of(device) < 0)
        code = INVALID_DEVICE;
    if (code == SUCCESS)
        snprintf(address, (size_t)size, "%s", gpus[gpu_of(device)].address);
    return code;
}

#ifdef HIP
int hipSetDevice(int device)
{
    int code = enter("hipSetDevice");
    if (code == SUCCESS && gpu_of(device) < 0)
        code = INVALID_DEVICE;
    if (code == SUCCESS)
        current = gpu_of(device);
    return code;
}

const char *hipGetErrorName(int code) { return code == 2 ? "hipErrorOutOfMemory" : "hipErrorUnknown"; }
const char *hipGetErrorString(int code) { return code == 2 ? "out of memory" : "unknown error"; }
#else
int cuDeviceGet(int *device, int ordinal)
{
    *device = HANDLES_FROM + ordinal;
    int code = enter("cuDeviceGet");
    return code ? code : gpu_of(*device) < 0 ? INVALID_DEVICE : SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **context, int device)
{
    int code = enter("cuDevicePrimaryCtxRetain");
    if (code == SUCCESS && gpu_of(device) < 0)
        code = INVALID_DEVICE;
    if (code == SUCCESS)
        *context = &gpus[gpu_of(device)];
    return code;
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
    int code = enter("cuDevicePrimaryCtxRelease");
    return code ? code : gpu_of(device) < 0 ? INVALID_DEVICE : SUCCESS;
}

int cuCtxSetCurrent(void *context)
{
    int code = enter("cuCtxSetCurrent");
    if (code == SUCCESS)
        current = (int)((struct gpu *)context - gpus);
    return code;
}

int cuGetErrorName(int code, const char **name)
{
    *name = code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : code == 100 ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_UNKNOWN";
    return SUCCESS;
}

int cuGetErrorString(int code, const char **text)
{
    *text = code == 2 ? "out of memory" : code == 100 ? "no CUDA-capable device is detected" : "unknown error";
    return SUCCESS;
}
#endif

int NAME(cuMemAlloc_v2, hipMalloc)(void **memory, size_t size)
{
    int code = enter(NAME("cuMemAlloc", "hipMalloc"));
    if (code == SUCCESS && current < 0)
        code = NO_CONTEXT;
    if (code == SUCCESS)
        *memory = malloc(size);
    return code;
}

int NAME(cuMemFree_v2, hipFree)(void *memory)
{
    int code = enter(NAME("cuMemFree", "hipFree"));
    free(memory);
    return code;
}

int NAME(cuMemHostRegister_v2, hipHostRegister)(void *start, size_t size, unsigned int flags)
{
    int code = enter(NAME("cuMemHostRegister", "hipHostRegister"));
    if (code == SUCCESS && (current < 0 || !(flags & 1)))
        code = NO_CONTEXT;
    pthread_mutex_lock(&lock);
    for (int i = 0; code == SUCCESS && i < MAX_PINNED; i++)
        if (!pinned[i].start) {
            pinned[i] = (struct range){start, size};
            break;
        }
    pthread_mutex_unlock(&lock);
    return code;
}

int NAME(cuMemHostUnregister, hipHostUnregister)(void *start)
{
    int code = enter(NAME("cuMemHostUnregister", "hipHostUnregister")), found = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_PINNED; i++)
        if (pinned[i].start == start) {
            pinned[i].start = NULL;
            found = 1;
        }
    pthread_mutex_unlock(&lock);
    return code ? code : found ? SUCCESS : INVALID_VALUE;
}

static int is_pinned(const char *start, size_t size)
{
    int found = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_PINNED; i++)
        found |= pinned[i].start && start >= pinned[i].start && start + size <= pinned[i].start + pinned[i].size;
    pthread_mutex_unlock(&lock);
    return found;
}

static int copy(const char *function, void *target, const void *source, size_t size, void *host)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    int code = enter(function), node = 0;
    if (code)
        return code;
    if (current < 0 || !is_pinned(host, size))
        return NO_CONTEXT;
    /* Without NUMA in the kernel there is but node 0. */
    syscall(SYS_get_mempolicy, &node, NULL, 0UL, host, (unsigned long)(MPOL_F_NODE | MPOL_F_ADDR));
    double rate = node >= 0 && node < MAX_NODES ? gpus[current].rates[node] : 0;
    if (rate <= 0)
        broken("no rate for the node of the host's memory");
    memcpy(target, source, size < PAGE ? size : PAGE);
    long long nanoseconds = (long long)((double)size / rate * 1e9) + end.tv_nsec;
    end.tv_sec += nanoseconds / 1000000000;
    end.tv_nsec = nanoseconds % 1000000000;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL))
        ;
    return SUCCESS;
}

#ifdef HIP
int hipMemcpy(void *target, void *source, size_t size, int kind)
{
    return kind == 1   ? copy("hipMemcpyHtoD", target, source, size, source)
           : kind == 2 ? copy("hipMemcpyDtoH", target, source, size, target)
                       : INVALID_VALUE;
}
#else
int cuMemcpyHtoD_v2(void *device, void *host, size_t size) { return copy("cuMemcpyHtoD", device, host, size, host); }
int cuMemcpyDtoH_v2(void *host, void *device, size_t size) { return copy("cuMemcpyDtoH", host, device, size, host); }
#endif
