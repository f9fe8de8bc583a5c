/* What the C files beside this one offer to Python, beyond libhwloc itself. */
#ifndef HWNUMA_H
#define HWNUMA_H
#include "shims.h"

/* Hidden, and so called without the linker's help; libhwloc resolves only what pciaccess_absent.c defines. */
#pragma GCC visibility push(hidden)

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

#pragma GCC visibility pop
#endif
