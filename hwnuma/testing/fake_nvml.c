/* A libnvidia-ml.so.1 for tests: answers NVML's functions from a text file.
 *
 * The real nvidia-ml-py (or any other user of NVML) loads it by its own dlopen("libnvidia-ml.so.1").
 * HWNUMA_FAKE_NVML names the description, which is read anew at the first nvmlInit of each nesting;
 * HWNUMA_FAKE_NVML_LOG, if set, names a file to which each call appends "PID FUNCTION\n".
 *
 * The description, one statement a line; # begins a comment; indentation is free:
 *
 *   driver 570.86.15              version of the driver
 *   init-delay 200                milliseconds that an nvmlInit takes
 *   error FUNCTION CODE [TIMES]   the function fails with this nvmlReturn_t (the first TIMES times);
 *                                 ahead of the first gpu for all of them, after a gpu line for that one
 *   hang FUNCTION                 the function never returns, as a driver that waits for a GPU that does not answer
 *   cpus-in-system 256            masks need room for so many CPUs, or else it is INSUFFICIENT_SIZE
 *   gpu 00000000:07:00.0          begins a GPU, with its PCI address
 *   uuid GPU-...                  of the GPU or of the instance above
 *   name NVIDIA H100              of the GPU or of the instance above
 *   cpus 0-47,96-143              CPU affinity; without this line it is NOT_SUPPORTED; "cpus" alone is the empty set
 *   nodes 0                       memory affinity, in the same way
 *   mig on|off                    without this line the GPU does not support MIG
 *   instance PLACE GI CI          a MIG instance of the GPU above, at a place among those it could have (0 to 6)
 *   nvlink ADDRESS|switch [N]     N NVLinks (1) of the GPU above that are up, to a GPU or a switch
 *   process PID                   a compute process on the GPU or the instance above
 *
 * Written from the documentation of NVML's API; no part of NVML is in it. Not safe for threads.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
       UNKNOWN = 999 };
enum { MAX_GPUS = 64, MAX_INSTANCES = 7, MAX_ERRORS = 32, MAX_PROCESSES = 64, MAX_LINKS = 32, WORDS = 128, TEXT = 96 };

struct error { char function[TEXT]; int code; int times; };
struct errors { struct error all[MAX_ERRORS]; int count; };
struct hangs { char functions[MAX_ERRORS][TEXT]; int count; };
struct mask { int known; unsigned long long words[WORDS]; };

/* A GPU or a MIG instance: what a nvmlDevice_t points to. */
struct device {
    struct device *parent;
    char uuid[TEXT], name[TEXT], address[32];
    struct errors errors;
    struct mask cpus, nodes;
    int mig; /* -1 not supported, 0 off, 1 on */
    int gpu_instance, compute_instance;
    struct device *instances[MAX_INSTANCES];
    unsigned int processes[MAX_PROCESSES];
    unsigned int process_count;
    char links[MAX_LINKS][32];
    unsigned int link_count;
};

typedef struct device *nvmlDevice_t;

typedef struct {
    char busIdLegacy[16];
    unsigned int domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} nvmlPciInfo_t;

typedef struct {
    unsigned int pid;
    unsigned long long usedGpuMemory;
    unsigned int gpuInstanceId, computeInstanceId;
} nvmlProcessInfo_t;

static struct device *gpus[MAX_GPUS];
static unsigned int gpu_count;
static struct errors general_errors;
static struct hangs hangs;
static char driver_version[TEXT];
static unsigned int cpus_in_system;
static unsigned int init_delay_ms;
static int users;

static void broken(const char *path, int line, const char *text)
{
    fprintf(stderr, "fake NVML: %s:%d: cannot understand: %s\n", path, line, text);
    abort();
}

static void log_call(const char *function)
{
    const char *path = getenv("HWNUMA_FAKE_NVML_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) {
        fprintf(file, "%ld %s\n", (long)getpid(), function);
        fclose(file);
    }
}

static int error_in(struct errors *errors, const char *function)
{
    for (int i = 0; i < errors->count; i++) {
        struct error *error = &errors->all[i];
        if (strcmp(error->function, function) == 0 && error->times != 0) {
            if (error->times > 0)
                error->times--;
            return error->code;
        }
    }
    return SUCCESS;
}

static void hang_in(const char *function)
{
    for (int i = 0; i < hangs.count; i++)
        while (strcmp(hangs.functions[i], function) == 0)
            pause();
}

/* What every function but nvmlInit begins with: the error that it is to return, or SUCCESS. */
static int enter(const char *function, struct device *device)
{
    log_call(function);
    if (users == 0)
        return UNINITIALIZED;
    hang_in(function);
    int code = error_in(&general_errors, function);
    return code == SUCCESS && device ? error_in(&device->errors, function) : code;
}

static int read_mask(const char *text, struct mask *mask)
{
    memset(mask, 0, sizeof *mask);
    mask->known = 1;
    while (*text) {
        char *end;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (end == text)
            return 0;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        if (last < first || last >= WORDS * 64)
            return 0;
        for (unsigned long bit = first; bit <= last; bit++)
            mask->words[bit / 64] |= 1ULL << (bit % 64);
        if (*end == ',')
            end++;
        else if (*end)
            return 0;
        text = end;
    }
    return 1;
}

static struct device *new_device(struct device *parent)
{
    struct device *device = calloc(1, sizeof *device);
    if (!device)
        abort();
    device->parent = parent;
    device->mig = -1;
    return device;
}

static void forget_all(void)
{
    for (unsigned int i = 0; i < gpu_count; i++) {
        for (int place = 0; place < MAX_INSTANCES; place++)
            free(gpus[i]->instances[place]);
        free(gpus[i]);
    }
    gpu_count = 0;
    memset(&general_errors, 0, sizeof general_errors);
    memset(&hangs, 0, sizeof hangs);
    strcpy(driver_version, "570.86.15");
    cpus_in_system = 64;
    init_delay_ms = 0;
}

static struct device *add_instance(struct device *gpu, const char *rest)
{
    int place, gi, ci;
    if (!gpu || sscanf(rest, "%d %d %d", &place, &gi, &ci) != 3 || place < 0 || place >= MAX_INSTANCES
        || gpu->instances[place])
        return NULL;
    struct device *instance = new_device(gpu);
    instance->gpu_instance = gi;
    instance->compute_instance = ci;
    gpu->instances[place] = instance;
    return instance;
}

static int add_links(struct device *gpu, const char *rest)
{
    char end[32];
    unsigned int count = 1;
    if (!gpu || sscanf(rest, "%31s %u", end, &count) < 1 || gpu->link_count + count > MAX_LINKS)
        return 0;
    while (count--)
        strcpy(gpu->links[gpu->link_count++], end);
    return 1;
}

static int add_error(struct errors *errors, const char *rest)
{
    if (errors->count == MAX_ERRORS)
        return 0;
    struct error *error = &errors->all[errors->count++];
    error->times = -1;
    return sscanf(rest, "%95s %d %d", error->function, &error->code, &error->times) >= 2;
}

/* One statement; gpu is the GPU that was begun last, device that or its newest instance. Returns 0 if it makes no sense. */
static int read_statement(const char *word, const char *rest, struct device **gpu, struct device **device)
{
    if (strcmp(word, "driver") == 0)
        return sscanf(rest, "%95s", driver_version) == 1;
    if (strcmp(word, "init-delay") == 0)
        return sscanf(rest, "%u", &init_delay_ms) == 1;
    if (strcmp(word, "cpus-in-system") == 0)
        return sscanf(rest, "%u", &cpus_in_system) == 1;
    if (strcmp(word, "error") == 0)
        return add_error(*device ? &(*device)->errors : &general_errors, rest);
    if (strcmp(word, "hang") == 0 && hangs.count < MAX_ERRORS)
        return sscanf(rest, "%95s", hangs.functions[hangs.count++]) == 1;
    if (strcmp(word, "gpu") == 0) {
        if (gpu_count == MAX_GPUS || strlen(rest) >= sizeof (*gpu)->address)
            return 0;
        *gpu = *device = gpus[gpu_count++] = new_device(NULL);
        strcpy((*gpu)->address, rest);
        return 1;
    }
    if (!*device)
        return 0;
    if (strcmp(word, "instance") == 0)
        return (*device = add_instance(*gpu, rest)) != NULL;
    if (strcmp(word, "uuid") == 0)
        return snprintf((*device)->uuid, TEXT, "%s", rest) < TEXT;
    if (strcmp(word, "name") == 0)
        return snprintf((*device)->name, TEXT, "%s", rest) < TEXT;
    if (strcmp(word, "cpus") == 0)
        return read_mask(rest, &(*gpu)->cpus);
    if (strcmp(word, "nodes") == 0)
        return read_mask(rest, &(*gpu)->nodes);
    if (strcmp(word, "nvlink") == 0)
        return add_links(*gpu, rest);
    if (strcmp(word, "mig") == 0) {
        (*gpu)->mig = strcmp(rest, "on") == 0;
        return strcmp(rest, "on") == 0 || strcmp(rest, "off") == 0;
    }
    if (strcmp(word, "process") == 0 && (*device)->process_count < MAX_PROCESSES)
        return sscanf(rest, "%u", &(*device)->processes[(*device)->process_count++]) == 1;
    return 0;
}

static void read_description(void)
{
    const char *path = getenv("HWNUMA_FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file)
        broken(path ? path : "HWNUMA_FAKE_NVML", 0, "no such description");
    struct device *gpu = NULL, *device = NULL;
    char line[4096];
    forget_all();
    for (int number = 1; fgets(line, sizeof line, file); number++) {
        char word[TEXT] = "";
        int start = 0;
        line[strcspn(line, "#\n")] = '\0';
        if (sscanf(line, " %95s %n", word, &start) < 1)
            continue;
        char *rest = line + start;
        for (size_t length = strlen(rest); length && strchr(" \t\r", rest[length - 1]); length--)
            rest[length - 1] = '\0';
        if (!read_statement(word, rest, &gpu, &device))
            broken(path, number, line);
    }
    fclose(file);
}

static int initialize(const char *function)
{
    log_call(function);
    if (users == 0)
        read_description();
    hang_in("nvmlInit");
    usleep(init_delay_ms * 1000);
    int code = error_in(&general_errors, "nvmlInit");
    if (code == SUCCESS)
        users++;
    return code;
}

int nvmlInit(void) { return initialize("nvmlInit"); }
int nvmlInit_v2(void) { return initialize("nvmlInit"); }
int nvmlInitWithFlags(unsigned int flags) { (void)flags; return initialize("nvmlInit"); }

int nvmlShutdown(void)
{
    int code = enter("nvmlShutdown", NULL);
    if (code == SUCCESS)
        users--;
    return code;
}

const char *nvmlErrorString(int code)
{
    static char text[64];
    snprintf(text, sizeof text, "fake NVML's text of error %d", code);
    return text;
}

static int give_text(const char *text, char *buffer, unsigned int size)
{
    if (!buffer)
        return INVALID_ARGUMENT;
    if (!*text)
        return NOT_SUPPORTED;
    if (strlen(text) + 1 > size)
        return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *version, unsigned int size)
{
    int code = enter("nvmlSystemGetDriverVersion", NULL);
    return code ? code : give_text(driver_version, version, size);
}

int nvmlSystemGetNVMLVersion(char *version, unsigned int size)
{
    int code = enter("nvmlSystemGetNVMLVersion", NULL);
    return code ? code : give_text(driver_version, version, size);
}

int nvmlDeviceGetCount_v2(unsigned int *count)
{
    int code = enter("nvmlDeviceGetCount", NULL);
    if (code == SUCCESS)
        *count = gpu_count;
    return code;
}
int nvmlDeviceGetCount(unsigned int *count) { return nvmlDeviceGetCount_v2(count); }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
    int code = enter("nvmlDeviceGetHandleByIndex", index < gpu_count ? gpus[index] : NULL);
    if (code)
        return code;
    if (index >= gpu_count)
        return INVALID_ARGUMENT;
    *device = gpus[index];
    return SUCCESS;
}
int nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device)
{
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    int code = enter("nvmlDeviceGetHandleByUUID", NULL);
    for (unsigned int i = 0; code == SUCCESS && i < gpu_count; i++) {
        if (strcmp(gpus[i]->uuid, uuid) == 0) {
            *device = gpus[i];
            return SUCCESS;
        }
        for (int place = 0; place < MAX_INSTANCES; place++)
            if (gpus[i]->instances[place] && strcmp(gpus[i]->instances[place]->uuid, uuid) == 0) {
                *device = gpus[i]->instances[place];
                return SUCCESS;
            }
    }
    return code ? code : NOT_FOUND;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *address, nvmlDevice_t *device)
{
    int code = enter("nvmlDeviceGetHandleByPciBusId", NULL);
    unsigned int wanted[3] = {0}, found[3] = {0};
    if (code == SUCCESS && sscanf(address, "%x:%x:%x", &wanted[0], &wanted[1], &wanted[2]) != 3)
        return INVALID_ARGUMENT;
    for (unsigned int i = 0; code == SUCCESS && i < gpu_count; i++) {
        sscanf(gpus[i]->address, "%x:%x:%x", &found[0], &found[1], &found[2]);
        if (memcmp(wanted, found, sizeof found) == 0) {
            *device = gpus[i];
            return SUCCESS;
        }
    }
    return code ? code : NOT_FOUND;
}
int nvmlDeviceGetHandleByPciBusId(const char *address, nvmlDevice_t *device)
{
    return nvmlDeviceGetHandleByPciBusId_v2(address, device);
}

int nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index)
{
    int code = enter("nvmlDeviceGetIndex", device);
    for (unsigned int i = 0; code == SUCCESS && i < gpu_count; i++)
        if (gpus[i] == device) {
            *index = i;
            return SUCCESS;
        }
    return code ? code : INVALID_ARGUMENT;
}

int nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
    int code = enter("nvmlDeviceGetPciInfo", device);
    if (code)
        return code;
    /* NVML answers this for whole GPUs. */
    if (device->parent)
        return INVALID_ARGUMENT;
    memset(pci, 0, sizeof *pci);
    snprintf(pci->busId, sizeof pci->busId, "%s", device->address);
    sscanf(device->address, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04x:%02x:%02x.0", pci->domain & 0xffff, pci->bus & 0xff,
             pci->device & 0x1f);
    pci->pciDeviceId = 0x233010deU;
    return SUCCESS;
}
int nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci) { return nvmlDeviceGetPciInfo_v3(device, pci); }
int nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci) { return nvmlDeviceGetPciInfo_v3(device, pci); }

int nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link, unsigned int *is_active)
{
    int code = enter("nvmlDeviceGetNvLinkState", device);
    if (code || link >= device->link_count)
        return code ? code : device->link_count ? INVALID_ARGUMENT : NOT_SUPPORTED;
    *is_active = 1;
    return SUCCESS;
}

int nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned int link, unsigned int *type)
{
    int code = enter("nvmlDeviceGetNvLinkRemoteDeviceType", device);
    if (code || link >= device->link_count)
        return code ? code : INVALID_ARGUMENT;
    *type = strcmp(device->links[link], "switch") ? 0 : 2; /* a GPU, a switch */
    return SUCCESS;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t *pci)
{
    int code = enter("nvmlDeviceGetNvLinkRemotePciInfo", device);
    if (code || link >= device->link_count)
        return code ? code : INVALID_ARGUMENT;
    memset(pci, 0, sizeof *pci);
    snprintf(pci->busId, sizeof pci->busId, "%s", device->links[link]);
    return SUCCESS;
}

int nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int size)
{
    int code = enter("nvmlDeviceGetUUID", device);
    return code ? code : give_text(device->uuid, uuid, size);
}

int nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int size)
{
    int code = enter("nvmlDeviceGetName", device);
    return code ? code : give_text(device->name, name, size);
}

/* The array's length is in unsigned longs. */
static int give_mask(const struct mask *mask, unsigned int needed_bits, unsigned int size, unsigned long *words)
{
    if (!mask->known)
        return NOT_SUPPORTED;
    if (!words || size == 0)
        return INVALID_ARGUMENT;
    if (size * 64 < needed_bits)
        return INSUFFICIENT_SIZE;
    for (unsigned int i = 0; i < size; i++)
        words[i] = i < WORDS ? (unsigned long)mask->words[i] : 0;
    return SUCCESS;
}

int nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned int size, unsigned long *words)
{
    int code = enter("nvmlDeviceGetCpuAffinity", device);
    return code ? code : device->parent ? NOT_SUPPORTED : give_mask(&device->cpus, cpus_in_system, size, words);
}

int nvmlDeviceGetCpuAffinityWithinScope(nvmlDevice_t device, unsigned int size, unsigned long *words, unsigned int scope)
{
    int code = enter("nvmlDeviceGetCpuAffinityWithinScope", device);
    if (code == SUCCESS && scope > 1)
        code = INVALID_ARGUMENT;
    return code ? code : device->parent ? NOT_SUPPORTED : give_mask(&device->cpus, cpus_in_system, size, words);
}

int nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, unsigned int size, unsigned long *words, unsigned int scope)
{
    int code = enter("nvmlDeviceGetMemoryAffinity", device);
    if (code == SUCCESS && scope > 1)
        code = INVALID_ARGUMENT;
    return code ? code : device->parent ? NOT_SUPPORTED : give_mask(&device->nodes, 64, size, words);
}

/* Of GPUs whose own memory is a node of the kernel's, and of no others. */
int nvmlDeviceGetNumaNodeId(nvmlDevice_t device, unsigned int *node)
{
    int code = enter("nvmlDeviceGetNumaNodeId", device);
    (void)node;
    return code ? code : NOT_SUPPORTED;
}

int nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending)
{
    int code = enter("nvmlDeviceGetMigMode", device);
    if (code)
        return code;
    if (device->mig < 0)
        return NOT_SUPPORTED;
    *current = *pending = (unsigned int)device->mig;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count)
{
    int code = enter("nvmlDeviceGetMaxMigDeviceCount", device);
    if (code == SUCCESS)
        *count = device->mig == 1 ? MAX_INSTANCES : 0;
    return code;
}

int nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *instance)
{
    int code = enter("nvmlDeviceGetMigDeviceHandleByIndex", device);
    if (code)
        return code;
    if (device->mig < 0)
        return NOT_SUPPORTED;
    if (index >= MAX_INSTANCES)
        return INVALID_ARGUMENT;
    if (!device->instances[index])
        return NOT_FOUND;
    code = error_in(&device->instances[index]->errors, "nvmlDeviceGetMigDeviceHandleByIndex");
    *instance = device->instances[index];
    return code;
}

int nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *is_instance)
{
    int code = enter("nvmlDeviceIsMigDeviceHandle", device);
    if (code == SUCCESS)
        *is_instance = device->parent != NULL;
    return code;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t instance, nvmlDevice_t *device)
{
    int code = enter("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", instance);
    if (code == SUCCESS && !instance->parent)
        code = INVALID_ARGUMENT;
    if (code == SUCCESS)
        *device = instance->parent;
    return code;
}

static int give_instance_id(const char *function, nvmlDevice_t device, int value, unsigned int *id)
{
    int code = enter(function, device);
    if (code == SUCCESS && !device->parent)
        code = INVALID_ARGUMENT;
    if (code == SUCCESS)
        *id = (unsigned int)value;
    return code;
}

int nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int *id)
{
    return give_instance_id("nvmlDeviceGetGpuInstanceId", device, device->gpu_instance, id);
}

int nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int *id)
{
    return give_instance_id("nvmlDeviceGetComputeInstanceId", device, device->compute_instance, id);
}

static int give_processes(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos)
{
    int code = enter("nvmlDeviceGetComputeRunningProcesses", device);
    if (code)
        return code;
    unsigned int room = *count;
    *count = device->process_count;
    if (room < device->process_count)
        return INSUFFICIENT_SIZE;
    for (unsigned int i = 0; i < device->process_count && infos; i++) {
        memset(&infos[i], 0, sizeof infos[i]);
        infos[i].pid = device->processes[i];
        infos[i].usedGpuMemory = 1ULL << 30;
        infos[i].gpuInstanceId = device->parent ? (unsigned int)device->gpu_instance : 0xFFFFFFFFU;
        infos[i].computeInstanceId = device->parent ? (unsigned int)device->compute_instance : 0xFFFFFFFFU;
    }
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos)
{
    return give_processes(device, count, infos);
}

int nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos)
{
    return give_processes(device, count, infos);
}
