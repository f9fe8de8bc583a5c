/* What hwnuma uses of libhwloc, for cffi: hwloc.h, bitmap.h, linux.h and distances.h in the order of hwloc's
 * own documentation groups. "..." leaves layouts and values to the C compiler, so that one set of declarations
 * serves every hwloc from 2.4 on. */

/* ---- API version ---- */
#define HWLOC_API_VERSION ...
unsigned hwloc_get_api_version(void);

/* ---- Object sets (bitmaps) ---- */
typedef struct hwloc_bitmap_s *hwloc_bitmap_t;
typedef const struct hwloc_bitmap_s *hwloc_const_bitmap_t;
hwloc_bitmap_t hwloc_bitmap_alloc(void);
void hwloc_bitmap_free(hwloc_bitmap_t bitmap);
int hwloc_bitmap_from_ulongs(hwloc_bitmap_t bitmap, unsigned nr, const unsigned long *masks);
int hwloc_bitmap_to_ulongs(hwloc_const_bitmap_t bitmap, unsigned nr, unsigned long *masks);
int hwloc_bitmap_nr_ulongs(hwloc_const_bitmap_t bitmap);
int hwloc_bitmap_list_asprintf(char **strp, hwloc_const_bitmap_t bitmap);
int hwloc_bitmap_list_sscanf(hwloc_bitmap_t bitmap, const char *string);

/* ---- Object types ---- */
typedef enum {
    HWLOC_OBJ_MACHINE, HWLOC_OBJ_PACKAGE, HWLOC_OBJ_CORE, HWLOC_OBJ_PU,
    HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L4CACHE, HWLOC_OBJ_L5CACHE,
    HWLOC_OBJ_NUMANODE, HWLOC_OBJ_PCI_DEVICE, HWLOC_OBJ_OS_DEVICE, ...
} hwloc_obj_type_t;

/* ---- Object structure and attributes ---- */
struct hwloc_numanode_attr_s {
    uint64_t local_memory;
    ...;
};
struct hwloc_cache_attr_s {
    unsigned depth;
    ...;
};
union hwloc_obj_attr_u {
    struct hwloc_numanode_attr_s numanode;
    struct hwloc_cache_attr_s cache;
    ...;
};
struct hwloc_obj {
    hwloc_obj_type_t type;
    char *subtype;
    unsigned os_index;
    union hwloc_obj_attr_u *attr;
    struct hwloc_obj *parent;
    hwloc_bitmap_t cpuset;
    hwloc_bitmap_t complete_cpuset;
    hwloc_bitmap_t nodeset;
    hwloc_bitmap_t complete_nodeset;
    ...;
};
typedef struct hwloc_obj *hwloc_obj_t;

/* ---- Topology creation and destruction ---- */
typedef ... *hwloc_topology_t;
int hwloc_topology_init(hwloc_topology_t *topologyp);
int hwloc_topology_load(hwloc_topology_t topology);
void hwloc_topology_destroy(hwloc_topology_t topology);

/* ---- Object levels, depths and types ---- */
int hwloc_topology_get_depth(hwloc_topology_t topology);
hwloc_obj_type_t hwloc_get_depth_type(hwloc_topology_t topology, int depth);
unsigned hwloc_get_nbobjs_by_depth(hwloc_topology_t topology, int depth);
hwloc_obj_t hwloc_get_obj_by_depth(hwloc_topology_t topology, int depth, unsigned idx);
enum hwloc_get_type_depth_e { HWLOC_TYPE_DEPTH_NUMANODE, HWLOC_TYPE_DEPTH_PCI_DEVICE, ... };
hwloc_obj_t hwloc_get_root_obj(hwloc_topology_t topology);

/* ---- Converting between object types, sets and attributes, and strings ---- */
const char *hwloc_obj_type_string(hwloc_obj_type_t type);

/* ---- Consulting and adding info attributes ---- */
const char *hwloc_obj_get_info_by_name(hwloc_obj_t obj, const char *name);

/* ---- CPU binding ---- */
#define HWLOC_CPUBIND_PROCESS ...
#define HWLOC_CPUBIND_THREAD ...
#define HWLOC_CPUBIND_STRICT ...
int hwloc_set_cpubind(hwloc_topology_t topology, hwloc_const_bitmap_t set, int flags);
int hwloc_get_cpubind(hwloc_topology_t topology, hwloc_bitmap_t set, int flags);
int hwloc_set_proc_cpubind(hwloc_topology_t topology, int pid, hwloc_const_bitmap_t set, int flags);
int hwloc_get_proc_cpubind(hwloc_topology_t topology, int pid, hwloc_bitmap_t set, int flags);

/* ---- Memory binding ---- */
typedef enum {
    HWLOC_MEMBIND_DEFAULT, HWLOC_MEMBIND_FIRSTTOUCH, HWLOC_MEMBIND_BIND, HWLOC_MEMBIND_INTERLEAVE,
    HWLOC_MEMBIND_MIXED, ...
} hwloc_membind_policy_t;
#define HWLOC_MEMBIND_PROCESS ...
#define HWLOC_MEMBIND_THREAD ...
#define HWLOC_MEMBIND_STRICT ...
#define HWLOC_MEMBIND_MIGRATE ...
#define HWLOC_MEMBIND_NOCPUBIND ...
#define HWLOC_MEMBIND_BYNODESET ...
int hwloc_set_membind(hwloc_topology_t topology, hwloc_const_bitmap_t set, hwloc_membind_policy_t policy, int flags);
int hwloc_get_membind(hwloc_topology_t topology, hwloc_bitmap_t set, hwloc_membind_policy_t *policy, int flags);
int hwloc_set_area_membind(hwloc_topology_t topology, const void *addr, size_t len, hwloc_const_bitmap_t set,
                           hwloc_membind_policy_t policy, int flags);

/* ---- Changing the source of topology discovery ---- */
int hwloc_topology_set_synthetic(hwloc_topology_t topology, const char *description);
int hwloc_topology_set_xmlbuffer(hwloc_topology_t topology, const char *buffer, int size);
#define HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST ...
int hwloc_topology_set_components(hwloc_topology_t topology, unsigned long flags, const char *name);

/* ---- Topology detection configuration and query ---- */
#define HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED ...
#define HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM ...
int hwloc_topology_set_flags(hwloc_topology_t topology, unsigned long flags);
int hwloc_topology_is_thissystem(hwloc_topology_t topology);
enum hwloc_type_filter_e { HWLOC_TYPE_FILTER_KEEP_ALL, HWLOC_TYPE_FILTER_KEEP_IMPORTANT, ... };
int hwloc_topology_set_io_types_filter(hwloc_topology_t topology, enum hwloc_type_filter_e filter);

/* ---- Finding objects, miscellaneous helpers ---- */
hwloc_obj_t hwloc_get_non_io_ancestor_obj(hwloc_topology_t topology, hwloc_obj_t ioobj);

/* ---- Topology-wide sets ---- */
hwloc_const_bitmap_t hwloc_topology_get_allowed_cpuset(hwloc_topology_t topology);
hwloc_const_bitmap_t hwloc_topology_get_allowed_nodeset(hwloc_topology_t topology);

/* ---- Retrieve distances between objects ---- */
struct hwloc_distances_s {
    unsigned nbobjs;
    hwloc_obj_t *objs;
    unsigned long kind;
    uint64_t *values;
    ...;
};
#define HWLOC_DISTANCES_KIND_FROM_OS ...
#define HWLOC_DISTANCES_KIND_MEANS_LATENCY ...
int hwloc_distances_get_by_type(hwloc_topology_t topology, hwloc_obj_type_t type, unsigned *nr,
                                struct hwloc_distances_s **distances, unsigned long kind, unsigned long flags);
void hwloc_distances_release(hwloc_topology_t topology, struct hwloc_distances_s *distances);

/* ---- Kinds of CPU cores ---- */
int hwloc_cpukinds_get_nr(hwloc_topology_t topology, unsigned long flags);

/* ---- Exporting topologies to XML ---- */
int hwloc_topology_export_xmlbuffer(hwloc_topology_t topology, char **xmlbuffer, int *buflen, unsigned long flags);
void hwloc_free_xmlbuffer(hwloc_topology_t topology, char *xmlbuffer);

/* ---- Linux-specific helpers ---- */
int hwloc_linux_set_tid_cpubind(hwloc_topology_t topology, int tid, hwloc_const_bitmap_t set);
int hwloc_linux_get_tid_cpubind(hwloc_topology_t topology, int tid, hwloc_bitmap_t set);

/* ---- C library ---- */
void free(void *pointer);

/* ---- shims.h: where hwloc 2 and 3 differ ---- */
struct hwnuma_pci {
    unsigned domain, bus, device, function, class_id, vendor_id, device_id;
};
void hwnuma_get_pci(hwloc_obj_t obj, struct hwnuma_pci *pci);
int hwnuma_is_data_cache(hwloc_obj_t obj);
int hwnuma_cpukind(hwloc_topology_t topology, unsigned index, hwloc_bitmap_t set, int *efficiency);

/* ---- shims.h: what libhwloc does not do with memory policies ---- */
#define HWNUMA_POLICY_WORDS ...
int hwnuma_get_mempolicy(int *mode, unsigned long *nodes, unsigned long bits);
int hwnuma_set_mempolicy(int mode, const unsigned long *nodes, unsigned long bits);
long hwnuma_migrate_pages(int pid, unsigned long bits, const unsigned long *from, const unsigned long *to);

/* ---- hwnuma.h ---- */
hwloc_topology_t hwnuma_load_for_binding(hwloc_const_bitmap_t cpus, hwloc_const_bitmap_t nodes);
int hwnuma_bind_self(const char *cpus, const char *nodes, int policy, int flags);
