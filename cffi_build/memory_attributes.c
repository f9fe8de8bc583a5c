/* What the firmware says of memory: hwloc's memory attributes, which it takes from the kernel's (the HMAT). */
#include "hwnuma.h"

#include <hwloc/memattrs.h>

long long hwnuma_memory_attribute(hwloc_topology_t topology, int is_latency, hwloc_const_bitmap_t cpus, unsigned node)
{
    hwloc_memattr_id_t id = is_latency ? HWLOC_MEMATTR_ID_LATENCY : HWLOC_MEMATTR_ID_BANDWIDTH;
    hwloc_obj_t target = hwloc_get_numanode_obj_by_os_index(topology, node);
    struct hwloc_location initiator;
    hwloc_uint64_t value;
    initiator.type = HWLOC_LOCATION_TYPE_CPUSET;
    initiator.location.cpuset = (hwloc_bitmap_t) cpus;
    if (target == NULL || hwloc_memattr_get_value(topology, id, target, &initiator, 0, &value) < 0)
        return -1;
    return (long long) value;
}
