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

/* ---- Topology creation and destruction ---- */
typedef ... *hwloc_topology_t;
int hwloc_topology_load(hwloc_topology_t topology);
void hwnuma_topology_destroy(hwloc_topology_t topology);

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

/* ---- Topology detection configuration and query ---- */
int hwloc_topology_is_thissystem(hwloc_topology_t topology);

/* ---- Exporting topologies to XML ---- */
int hwloc_topology_export_xmlbuffer(hwloc_topology_t topology, char **xmlbuffer, int *buflen, unsigned long flags);
void hwloc_free_xmlbuffer(hwloc_topology_t topology, char *xmlbuffer);

/* ---- Linux-specific helpers ---- */
int hwloc_linux_set_tid_cpubind(hwloc_topology_t topology, int tid, hwloc_const_bitmap_t set);
int hwloc_linux_get_tid_cpubind(hwloc_topology_t topology, int tid, hwloc_bitmap_t set);

/* ---- C library ---- */
void free(void *pointer);

/* ---- shims.h: what libhwloc does not do with memory policies ---- */
#define POLICY_WORDS ...
int hwnuma_get_mempolicy(int *mode, unsigned long *nodes, unsigned long bits);
int hwnuma_set_mempolicy(int mode, const unsigned long *nodes, unsigned long bits);
long hwnuma_migrate_pages(int pid, unsigned long bits, const unsigned long *from, const unsigned long *to);

/* ---- hwnuma.h ---- */
hwloc_topology_t hwnuma_load_for_binding(hwloc_const_bitmap_t cpus, hwloc_const_bitmap_t nodes);
int hwnuma_bind_self(const char *cpus, const char *nodes, int policy, int flags);

#define WANT_PCI ...
#define WANT_NETWORK ...
#define WANT_FIRST_CACHES ...
hwloc_topology_t hwnuma_new_topology(int wanted);
int hwnuma_lacks_caches(hwloc_topology_t topology);

struct hwnuma_text {
    char *bytes;
    size_t used;
    ...;
};
int hwnuma_copy_out(hwloc_topology_t topology, struct hwnuma_text *text);
int hwnuma_add_info(hwloc_topology_t topology, int is_openfabrics, const char *device, const char *name,
                    const char *value);

long long hwnuma_memory_attribute(hwloc_topology_t topology, int is_latency, hwloc_const_bitmap_t cpus, unsigned node);

#define TRIAL_SECONDS ...
#define TRIAL_MEGABYTES ...
enum hwnuma_outcome {
    TRIAL_LOADED, TRIAL_REFUSED, TRIAL_KILLED, TRIAL_OVER_TIME, TRIAL_OVER_MEMORY, ...
};
struct hwnuma_trial {
    int outcome, code;
    char *bytes;
    size_t size;
};
int hwnuma_try_xml(const char *document, int size, int wanted, struct hwnuma_trial *trial);

#define XML_MOST_BYTES ...
#define XML_MOST_DEPTH ...
#define XML_LARGEST_INDEX ...
enum hwnuma_xml_form { XML_OWN, XML_OTHER, XML_TOO_DEEP };
struct hwnuma_xml {
    unsigned major, minor, pus, bad_index, bad_set;
};
int hwnuma_look_at_xml(const char *document, struct hwnuma_xml *found);
