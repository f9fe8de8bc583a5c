/* What every topology that is read for planning is configured with. */
#include "hwnuma.h"

/* Never loaded. The first six open GPU drivers, which wakes GPUs or creates contexts on them (hwloc FAQ, "How do I
 * avoid hwloc touching GPUs"). "pci" is not needed: "linux" reads PCI devices from sysfs, as torch does. "x86" moves
 * the calling thread over all CPUs to ask each, isolated ones too, and says what sysfs says. */
static const char *const UNWANTED[] = {"cuda", "nvml", "opencl", "gl", "rsmi", "levelzero", "pci", "x86"};

static int leave_out(hwloc_topology_t topology, int wanted)
{
    enum hwloc_type_filter_e none = HWLOC_TYPE_FILTER_KEEP_NONE;
    enum hwloc_type_filter_e io = wanted & WANT_PCI ? HWLOC_TYPE_FILTER_KEEP_ALL : none;
    if (hwloc_topology_set_io_types_filter(topology, io) < 0)
        return -1;
    /* Without OS devices libhwloc does not read the classes of sysfs, disks' and displays' included. */
    if (!(wanted & WANT_NETWORK) && hwloc_topology_set_type_filter(topology, HWLOC_OBJ_OS_DEVICE, none) < 0)
        return -1;
    return wanted & WANT_FIRST_CACHES ? 0 : hwloc_topology_set_type_filter(topology, HWLOC_OBJ_L1CACHE, none);
}

hwloc_topology_t hwnuma_new_topology(int wanted)
{
    hwloc_topology_t topology = NULL;
    if (hwnuma_topology_init(&topology) < 0)
        return NULL;
    for (size_t i = 0; i < sizeof UNWANTED / sizeof *UNWANTED; i++)
        /* One that this libhwloc was built without is refused, and that is as good. */
        hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, UNWANTED[i]);
    /* Disallowed CPUs stay, so that it can be said why a GPU has none. */
    if (hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED) == 0
        && leave_out(topology, wanted) == 0)
        return topology;
    hwnuma_topology_destroy(topology);
    return NULL;
}

int hwnuma_lacks_caches(hwloc_topology_t topology)
{
    hwloc_bitmap_t covered = hwloc_bitmap_alloc();
    int lacks;
    for (int depth = 0; covered != NULL && depth < hwloc_topology_get_depth(topology); depth++)
        if (hwloc_obj_type_is_dcache(hwloc_get_depth_type(topology, depth)))
            for (unsigned i = 0; i < hwloc_get_nbobjs_by_depth(topology, depth); i++)
                hwloc_bitmap_or(covered, covered, hwloc_get_obj_by_depth(topology, depth, i)->cpuset);
    lacks = covered == NULL || !hwloc_bitmap_isincluded(hwloc_get_root_obj(topology)->cpuset, covered);
    hwloc_bitmap_free(covered);
    return lacks;
}
