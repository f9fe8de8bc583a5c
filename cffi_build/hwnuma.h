/* What the C files beside this one offer to Python, beyond libhwloc itself. */
#ifndef HWNUMA_H
#define HWNUMA_H
#include "shims.h"

/* Hidden, and so called without the linker's help; libhwloc resolves only what pciaccess_absent.c defines. */
#pragma GCC visibility push(hidden)

/* hwloc_topology_init and hwloc_topology_destroy, while no thread forks. */
int hwnuma_topology_init(hwloc_topology_t *topology);
void hwnuma_topology_destroy(hwloc_topology_t topology);

/* Load a topology that says nothing of this system and can bind on it, in a fraction of a millisecond. NULL with errno.
 *
 * libhwloc needs of a topology to bind through only that the CPUs and the nodes to bind to are in it, and the highest
 * CPU number, up to which it reads affinities. So this is a synthetic one of just these, marked as this system. There
 * must be a node. */
hwloc_topology_t hwnuma_load_for_binding(hwloc_const_bitmap_t cpus, hwloc_const_bitmap_t nodes);

/* Bind the calling thread to the CPUs of a list (hwloc_set_cpubind) and, if the policy is another than
 * HWLOC_MEMBIND_DEFAULT, its memory to the nodes of a list (hwloc_set_membind with these flags), and read both back.
 *
 * Returns 0 if the kernel did just that. Otherwise -1, and all is as it was: also where a list is not written as
 * str(CpuSet) writes it, or the libhwloc that runs does not fit. Why, is for the whole program to find out. */
int hwnuma_bind_self(const char *cpus, const char *nodes, int policy, int flags);

/* Make a topology that is configured and not loaded; NULL with errno. Wanted: PCI devices, what the OS makes of
 * them, and first-level caches, which planning reads only where a CPU has no other (then hwnuma_lacks_caches says
 * so). */
enum { WANT_PCI = 1, WANT_NETWORK = 2, WANT_FIRST_CACHES = 4 };
hwloc_topology_t hwnuma_new_topology(int wanted);
int hwnuma_lacks_caches(hwloc_topology_t topology);

/* What planning needs of a loaded topology, as text (see copy_out.c). The bytes are to be freed. -1 without memory. */
struct hwnuma_text {
    char *bytes;
    size_t used, room;
    int failed;
};
int hwnuma_copy_out(hwloc_topology_t topology, struct hwnuma_text *text);

/* Add an info attribute to the OpenFabrics devices, or else to the network interfaces, of a name, unless it is
 * there. -1 without memory. */
int hwnuma_add_info(hwloc_topology_t topology, int is_openfabrics, const char *device, const char *name,
                    const char *value);

/* What the firmware says of a node's memory as some CPUs see it: bandwidth in MiB/s, or latency in ns (hwloc's
 * memory attributes). -1 where it does not tell. */
long long hwnuma_memory_attribute(hwloc_topology_t topology, int is_latency, hwloc_const_bitmap_t cpus, unsigned node);

/* Bounds of a trial: wall clock and CPU time (a DGX takes 2 ms, a machine of 8,192 CPUs some 100), and memory beyond
 * what this process has (a DGX takes 2 MB). */
#define TRIAL_SECONDS 4
#define TRIAL_MEGABYTES 512

/* Load a document in a process of its own (see try_xml.c). The size counts the terminating zero byte. Returns -1
 * with errno where no such process can be started; else the outcome is one of these, and with TRIAL_LOADED bytes is
 * what hwnuma_copy_out writes, to be freed. */
enum hwnuma_outcome {
    TRIAL_NOT_TRIED,
    TRIAL_LOADED,
    TRIAL_REFUSED,     /* by libhwloc; code is its errno */
    TRIAL_KILLED,      /* code is the signal */
    TRIAL_OVER_TIME,
    TRIAL_OVER_MEMORY
};
struct hwnuma_trial {
    int outcome, code;
    char *bytes;
    size_t size;
};
int hwnuma_try_xml(const char *document, int size, int wanted, struct hwnuma_trial *trial);

/* Look at a document without a parser's cost: is it in the form that libhwloc itself writes, which its minimal parser
 * reads, and what is in it? Every bound here is far above what a machine has. */
#define XML_MOST_BYTES (64 << 20) /* lstopo writes 1 KB for each CPU, and 6 KB on a machine of 4,096 */
#define XML_MOST_DEPTH 128
#define XML_LARGEST_INDEX (1 << 20)
enum hwnuma_xml_form {
    XML_OWN,       /* elements with double-quoted attributes, and text in leaves only */
    XML_OTHER,     /* another form, or no XML */
    XML_TOO_DEEP   /* elements within elements beyond the bound */
};
struct hwnuma_xml {
    unsigned major, minor; /* the format's version; 1.0 where none is told */
    unsigned pus;
    unsigned bad_index;    /* line of the first PU or NUMA node whose os_index is missing or beyond the bound, or 0 */
    unsigned bad_set;      /* line of the first bitmap that reaches beyond the bound, or 0 */
};
int hwnuma_look_at_xml(const char *document, struct hwnuma_xml *found);

#pragma GCC visibility pop
#endif
