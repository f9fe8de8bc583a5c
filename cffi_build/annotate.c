/* Note in a loaded topology what libhwloc does not tell of network cards, so that what is exported has it too. */
#include "hwnuma.h"

#include <string.h>

int hwnuma_add_info(hwloc_topology_t topology, int is_openfabrics, const char *device, const char *name,
                    const char *value)
{
    unsigned long kind = is_openfabrics ? HWLOC_OBJ_OSDEV_OPENFABRICS : HWLOC_OBJ_OSDEV_NETWORK;
    for (unsigned i = 0; i < hwloc_get_nbobjs_by_depth(topology, HWLOC_TYPE_DEPTH_OS_DEVICE); i++) {
        hwloc_obj_t obj = hwloc_get_obj_by_depth(topology, HWLOC_TYPE_DEPTH_OS_DEVICE, i);
        if (obj->name == NULL || strcmp(obj->name, device) != 0 || !hwnuma_is_os_device(obj, kind))
            continue;
        if (hwloc_obj_get_info_by_name(obj, name) == NULL && hwloc_obj_add_info(obj, name, value) < 0)
            return -1;
    }
    return 0;
}
