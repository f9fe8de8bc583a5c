/* Write what planning needs of a loaded topology as text: one call instead of one an object, and the same where a
 * file is tried in a child (try_xml.c), so that what it survives there is all that is done with it.
 *
 * Records of fields, each field ended by a zero byte, which no text of libhwloc can have in it. The first field of
 * a record is its kind, by which hwnuma/hwloc/copy_out.py knows the others. Sets are in list form, and a set that is
 * not there or is infinite is empty. */
#include "hwnuma.h"

#include <string.h>

/* PREFIX of hwnuma/model/facts.py */
#define FACTS_PREFIX "Hwnuma"

static void put_bytes(struct hwnuma_text *text, const char *bytes, size_t size)
{
    if (text->used + size > text->room) {
        size_t room = 2 * (text->used + size) + 4096;
        char *larger = realloc(text->bytes, room);
        if (larger == NULL) {
            text->failed = 1;
            return;
        }
        text->bytes = larger;
        text->room = room;
    }
    memcpy(text->bytes + text->used, bytes, size);
    text->used += size;
}

static void put(struct hwnuma_text *text, const char *field)
{
    put_bytes(text, field ? field : "", field ? strlen(field) + 1 : 1);
}

static void put_digits(struct hwnuma_text *text, uint64_t number)
{
    char digits[20], *first = digits + sizeof digits;
    do
        *--first = (char) ('0' + number % 10);
    while (number /= 10);
    put_bytes(text, first, (size_t) (digits + sizeof digits - first));
}

static void put_number(struct hwnuma_text *text, uint64_t number)
{
    put_digits(text, number);
    put_bytes(text, "", 1);
}

static void put_index(struct hwnuma_text *text, unsigned index)
{
    if (index == (unsigned) -1) /* HWLOC_UNKNOWN_INDEX */
        put(text, "-1");
    else
        put_number(text, index);
}

static void put_set(struct hwnuma_text *text, hwloc_const_bitmap_t set)
{
    int first = set && hwloc_bitmap_weight(set) > 0 ? hwloc_bitmap_first(set) : -1;
    while (first >= 0) {
        int end = hwloc_bitmap_next_unset(set, first);
        put_digits(text, (uint64_t) first);
        if (end - 1 > first) {
            put_bytes(text, "-", 1);
            put_digits(text, (uint64_t) end - 1);
        }
        if ((first = hwloc_bitmap_next(set, end)) >= 0)
            put_bytes(text, ",", 1);
    }
    put_bytes(text, "", 1);
}

static void put_machine(struct hwnuma_text *text, hwloc_topology_t topology)
{
    put(text, "machine");
    put_number(text, (uint64_t) hwloc_topology_is_thissystem(topology));
    put_set(text, hwloc_get_root_obj(topology)->cpuset);
    put_set(text, hwloc_topology_get_allowed_cpuset(topology));
    put_set(text, hwloc_topology_get_allowed_nodeset(topology));
}

static void put_indexed(struct hwnuma_text *text, const char *kind, hwloc_obj_t obj)
{
    put(text, kind);
    put_index(text, obj->os_index);
    put_set(text, obj->cpuset);
}

/* What hwnuma itself wrote of the whole machine: info attributes of the root by its prefix, in their order. */
static void put_facts(struct hwnuma_text *text, hwloc_topology_t topology)
{
    const struct hwloc_info_s *infos;
    unsigned count = hwnuma_infos(hwloc_get_root_obj(topology), &infos);
    for (unsigned i = 0; i < count; i++)
        if (strncmp(infos[i].name, FACTS_PREFIX, strlen(FACTS_PREFIX)) == 0) {
            put(text, "fact");
            put(text, infos[i].name);
            put(text, infos[i].value);
        }
}

/* All objects of a type, found by depth: cores, for one, can be at two depths. A PU is written as a core where no core
 * has it (libhwloc keeps none where sysfs tells none). */
static void put_all(struct hwnuma_text *text, hwloc_topology_t topology, hwloc_obj_type_t type, hwloc_bitmap_t in_cores)
{
    for (int depth = 0; depth < hwloc_topology_get_depth(topology); depth++) {
        unsigned count = hwloc_get_depth_type(topology, depth) == type ? hwloc_get_nbobjs_by_depth(topology, depth) : 0;
        for (unsigned i = 0; i < count; i++) {
            hwloc_obj_t obj = hwloc_get_obj_by_depth(topology, depth, i);
            if (type == HWLOC_OBJ_PACKAGE)
                put_indexed(text, "package", obj);
            else if (type == HWLOC_OBJ_CORE || !hwloc_bitmap_isincluded(obj->cpuset, in_cores))
                put_indexed(text, "core", obj);
            if (type == HWLOC_OBJ_CORE)
                text->failed |= hwloc_bitmap_or(in_cores, in_cores, obj->cpuset) < 0;
        }
    }
}

/* The data and unified caches, from the highest level down; a level is left out once the levels above cover all
 * CPUs. */
static void put_caches(struct hwnuma_text *text, hwloc_topology_t topology, hwloc_bitmap_t covered)
{
    static const hwloc_obj_type_t levels[] = {
        HWLOC_OBJ_L5CACHE, HWLOC_OBJ_L4CACHE, HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L1CACHE};
    hwloc_const_bitmap_t all = hwloc_get_root_obj(topology)->cpuset;
    for (size_t level = 0; level < 5 && !hwloc_bitmap_isincluded(all, covered); level++)
        for (int depth = 0; depth < hwloc_topology_get_depth(topology); depth++) {
            if (hwloc_get_depth_type(topology, depth) != levels[level])
                continue;
            for (unsigned i = 0; i < hwloc_get_nbobjs_by_depth(topology, depth); i++) {
                hwloc_obj_t obj = hwloc_get_obj_by_depth(topology, depth, i);
                put(text, "cache");
                put_number(text, obj->attr->cache.depth);
                put_set(text, obj->cpuset);
                text->failed |= hwloc_bitmap_or(covered, covered, obj->cpuset) < 0;
            }
        }
}

static void put_nodes(struct hwnuma_text *text, hwloc_topology_t topology)
{
    for (unsigned i = 0; i < hwloc_get_nbobjs_by_depth(topology, HWLOC_TYPE_DEPTH_NUMANODE); i++) {
        hwloc_obj_t obj = hwloc_get_obj_by_depth(topology, HWLOC_TYPE_DEPTH_NUMANODE, i);
        put_indexed(text, "node", obj);
        put_number(text, obj->attr->numanode.local_memory);
        put(text, obj->subtype);
    }
}

static void put_address(struct hwnuma_text *text, unsigned domain, unsigned bus, unsigned device, unsigned function)
{
    put_number(text, domain);
    put_number(text, bus);
    put_number(text, device);
    put_number(text, function);
}

/* The bridges above a device, the nearest first, and a last field that is empty. A host bridge has no address of its
 * own: the domain and the first bus below it say which it is. */
static void put_bridges(struct hwnuma_text *text, hwloc_obj_t obj)
{
    while ((obj = obj->parent) != NULL && obj->type == HWLOC_OBJ_BRIDGE) {
        const struct hwloc_bridge_attr_s *bridge = &obj->attr->bridge;
        const struct hwloc_pcidev_attr_s *pci = &bridge->upstream.pci;
        if (bridge->upstream_type == HWLOC_OBJ_BRIDGE_HOST) {
            put(text, "host");
            put_address(text, bridge->downstream.pci.domain, bridge->downstream.pci.secondary_bus, 0, 0);
        } else {
            put(text, "bridge");
            put_address(text, pci->domain, pci->bus, pci->dev, pci->func);
        }
    }
    put(text, "");
}

/* OpenFabrics devices and network interfaces of PCI devices, each with all its info attributes. */
static void put_network_devices(struct hwnuma_text *text, hwloc_topology_t topology)
{
    for (unsigned i = 0; i < hwloc_get_nbobjs_by_depth(topology, HWLOC_TYPE_DEPTH_OS_DEVICE); i++) {
        hwloc_obj_t obj = hwloc_get_obj_by_depth(topology, HWLOC_TYPE_DEPTH_OS_DEVICE, i);
        int is_openfabrics = hwnuma_is_os_device(obj, HWLOC_OBJ_OSDEV_OPENFABRICS);
        const struct hwloc_pcidev_attr_s *pci;
        const struct hwloc_info_s *infos;
        unsigned count = hwnuma_infos(obj, &infos);
        if (obj->parent->type != HWLOC_OBJ_PCI_DEVICE
            || !(is_openfabrics || hwnuma_is_os_device(obj, HWLOC_OBJ_OSDEV_NETWORK)))
            continue;
        pci = &obj->parent->attr->pcidev;
        put(text, "network");
        put_address(text, pci->domain, pci->bus, pci->dev, pci->func);
        put_number(text, pci->class_id);
        put_number(text, pci->vendor_id);
        put_number(text, pci->device_id);
        put_number(text, (uint64_t) is_openfabrics);
        put(text, obj->name);
        put_number(text, count);
        for (unsigned j = 0; j < count; j++) {
            put(text, infos[j].name);
            put(text, infos[j].value);
        }
    }
}

static void put_pci_devices(struct hwnuma_text *text, hwloc_topology_t topology)
{
    enum hwloc_type_filter_e network = HWLOC_TYPE_FILTER_KEEP_NONE;
    hwloc_topology_get_type_filter(topology, HWLOC_OBJ_OS_DEVICE, &network);
    for (unsigned i = 0; i < hwloc_get_nbobjs_by_depth(topology, HWLOC_TYPE_DEPTH_PCI_DEVICE); i++) {
        hwloc_obj_t obj = hwloc_get_obj_by_depth(topology, HWLOC_TYPE_DEPTH_PCI_DEVICE, i);
        hwloc_obj_t near = hwloc_get_non_io_ancestor_obj(topology, obj);
        const struct hwloc_pcidev_attr_s *pci = &obj->attr->pcidev;
        put(text, "pci");
        put_address(text, pci->domain, pci->bus, pci->dev, pci->func);
        put_number(text, pci->vendor_id);
        put_number(text, pci->device_id);
        put_number(text, pci->class_id);
        put(text, hwloc_obj_type_string(near->type));
        /* The complete sets: with a restricted cpuset, the ancestor's own can be empty. */
        put_set(text, near->complete_cpuset);
        put_set(text, near->complete_nodeset);
        put(text, hwloc_obj_get_info_by_name(obj, "PCIDevice"));
        put_number(text, near == hwloc_get_root_obj(topology));
        /* How near devices are to each other is asked of network cards only. */
        if (network == HWLOC_TYPE_FILTER_KEEP_NONE)
            put(text, "");
        else
            put_bridges(text, obj);
    }
}

static void put_distances(struct hwnuma_text *text, hwloc_topology_t topology)
{
    unsigned number = 1;
    struct hwloc_distances_s *matrix;
    unsigned long kind = HWLOC_DISTANCES_KIND_FROM_OS | HWLOC_DISTANCES_KIND_MEANS_LATENCY;
    if (hwloc_distances_get_by_type(topology, HWLOC_OBJ_NUMANODE, &number, &matrix, kind, 0) < 0 || number == 0)
        return;
    put(text, "distances");
    put_number(text, matrix->nbobjs);
    for (unsigned i = 0; i < matrix->nbobjs; i++)
        put_index(text, matrix->objs[i]->os_index);
    for (unsigned i = 0; i < matrix->nbobjs * matrix->nbobjs; i++)
        put_number(text, matrix->values[i]);
    hwloc_distances_release(topology, matrix);
}

static void put_cpu_kinds(struct hwnuma_text *text, hwloc_topology_t topology, hwloc_bitmap_t set)
{
    for (int index = 0; index < hwloc_cpukinds_get_nr(topology, 0); index++) {
        int efficiency;
        if (hwnuma_cpukind(topology, (unsigned) index, set, &efficiency) < 0)
            continue;
        put(text, "kind");
        put_index(text, (unsigned) efficiency); /* -1: not known */
        put_set(text, set);
    }
}

int hwnuma_copy_out(hwloc_topology_t topology, struct hwnuma_text *text)
{
    hwloc_bitmap_t in_cores = hwloc_bitmap_alloc(), covered = hwloc_bitmap_alloc(), kind = hwloc_bitmap_alloc();
    memset(text, 0, sizeof *text);
    text->failed = in_cores == NULL || covered == NULL || kind == NULL;
    if (!text->failed) {
        put_machine(text, topology);
        put_facts(text, topology);
        put_all(text, topology, HWLOC_OBJ_PACKAGE, NULL);
        put_all(text, topology, HWLOC_OBJ_CORE, in_cores);
        put_all(text, topology, HWLOC_OBJ_PU, in_cores);
        put_caches(text, topology, covered);
        put_nodes(text, topology);
        put_pci_devices(text, topology);
        put_network_devices(text, topology);
        put_distances(text, topology);
        put_cpu_kinds(text, topology, kind);
    }
    hwloc_bitmap_free(in_cores), hwloc_bitmap_free(covered), hwloc_bitmap_free(kind);
    if (text->failed) {
        free(text->bytes);
        errno = ENOMEM;
        return -1;
    }
    return 0;
}
