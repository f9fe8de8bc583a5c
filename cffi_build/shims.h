/* Where the same question has another form in another hwloc, and the kernel's own calls. */
#ifndef SHIMS_H
#define SHIMS_H
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/syscall.h>
#ifdef HWNUMA_CARRIES_HWLOC
#include "hwnuma_names.h" /* written by carry.py: the carried libhwloc's symbols have names of their own */
#endif
#include <hwloc.h>
#include <hwloc/linux.h>

/* The kinds of an OS device: hwloc 3 has several of one device. */
static inline int hwnuma_is_os_device(hwloc_obj_t obj, unsigned long kinds)
{
#if HWLOC_API_VERSION >= 0x00030000
    return (obj->attr->osdev.types & kinds) != 0;
#else
    return obj->attr->osdev.type == (hwloc_obj_osdev_type_t) kinds;
#endif
}

static inline unsigned hwnuma_infos(hwloc_obj_t obj, const struct hwloc_info_s **infos)
{
#if HWLOC_API_VERSION >= 0x00030000
    *infos = obj->infos.array;
    return obj->infos.count;
#else
    *infos = obj->infos;
    return obj->infos_count;
#endif
}

/* hwloc 3 has other arguments. */
static inline int hwnuma_cpukind(hwloc_topology_t topology, unsigned index, hwloc_bitmap_t set, int *efficiency)
{
#if HWLOC_API_VERSION >= 0x00030000
    struct hwloc_infos_s *infos;
    return hwloc_cpukinds_get_info(topology, index, set, efficiency, &infos, 0);
#else
    unsigned nr_infos;
    struct hwloc_info_s *infos;
    return hwloc_cpukinds_get_info(topology, index, set, efficiency, &nr_infos, &infos, 0);
#endif
}

/* Three calls of the kernel's. hwloc_get_membind shows MPOL_PREFERRED and MPOL_BIND alike, so what it returns cannot
 * restore a policy. HWLOC_MEMBIND_MIGRATE moves no page that is on nodes 4 to 7, 12 to 15, ... (hwloc 2.11,
 * topology-linux.c, fills its set of source nodes with bytes of 0x0f), and does not say how many pages stayed. */
#define POLICY_WORDS 32 /* 2,048 nodes (NODES_SHIFT allows 1,024): get_mempolicy refuses a buffer for fewer */

static inline int hwnuma_get_mempolicy(int *mode, unsigned long *nodes, unsigned long bits)
{
    return (int) syscall(SYS_get_mempolicy, mode, nodes, bits, NULL, 0UL);
}

static inline int hwnuma_set_mempolicy(int mode, const unsigned long *nodes, unsigned long bits)
{
    return (int) syscall(SYS_set_mempolicy, mode, nodes, bits);
}

static inline long hwnuma_migrate_pages(int pid, unsigned long bits, const unsigned long *from, const unsigned long *to)
{
    return syscall(SYS_migrate_pages, pid, bits, from, to);
}
#endif
