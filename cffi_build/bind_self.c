/* Bind the calling thread to a place that was planned elsewhere: all of it in one call, since a launcher starts every
 * rank through this, and the whole of hwnuma costs more than the binding. */
#define _GNU_SOURCE
#include "shims.h"
#include "hwnuma.h"

#include <stdio.h>

enum {
    HIGHEST_CPU = 8191 /* NR_CPUS with MAXSMP, the highest that Linux can be built for on most machines */
};

/* Read one number in decimal, without sign and without leading zeros. One that no machine has is left to the whole
 * program, which says so ahead of making a topology of a million CPUs. */
static int read_index(const char **text, unsigned *index)
{
    const char *start = *text;
    unsigned long value = 0;
    for (; **text >= '0' && **text <= '9' && *text - start < 8; ++*text)
        value = 10 * value + (unsigned long) (**text - '0');
    *index = (unsigned) value;
    return *text == start || (*start == '0' && *text - start > 1) || value > HIGHEST_CPU ? -1 : 0;
}

/* Read a list that is written as the kernel and str(CpuSet) write it: ranges ascending, and none touching the next.
 * Then the text itself is the record of what was bound. Any other form is left to the whole program. */
static int read_list(const char *text, hwloc_bitmap_t set)
{
    long last = -2;
    for (;;) {
        unsigned begin, end;
        if (read_index(&text, &begin) < 0 || (long) begin <= last + 1)
            return -1;
        end = begin;
        if (*text == '-' && (++text, read_index(&text, &end) < 0 || end <= begin))
            return -1;
        if (hwloc_bitmap_set_range(set, begin, (int) end) < 0)
            return -1;
        last = end;
        if (*text == '\0')
            return 0;
        if (*text++ != ',')
            return -1;
    }
}

/* Write the members of a set, and then higher numbers until there are as many as wanted. */
static void write_indexes(FILE *out, hwloc_const_bitmap_t set, int wanted)
{
    int written = 0, filler = hwloc_bitmap_last(set) < HIGHEST_CPU ? HIGHEST_CPU : hwloc_bitmap_last(set) + 1;
    for (int index = hwloc_bitmap_first(set); index >= 0; index = hwloc_bitmap_next(set, index))
        fprintf(out, "%s%d", written++ ? "," : "", index);
    while (written < wanted)
        fprintf(out, "%s%d", written++ ? "," : "", filler++);
}

/* Describe the topology. All nodes of a synthetic one have as many CPUs, and at least one CPU more than are wanted
 * is in it, since libhwloc takes the set of all for "unbound". In groups, since libhwloc's time is quadratic in the
 * children of one object (7 s for 8,192). NULL without memory; to be freed. */
static char *describe(hwloc_const_bitmap_t cpus, hwloc_const_bitmap_t nodes)
{
    char *text = NULL;
    size_t size;
    int count = hwloc_bitmap_weight(nodes), each = hwloc_bitmap_weight(cpus) / count + 1, in_group = 1;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return NULL;
    while (in_group * in_group < each)
        in_group++;
    int groups = (each + in_group - 1) / in_group;
    fprintf(out, "numa:%d(indexes=", count);
    write_indexes(out, nodes, 0);
    fprintf(out, ") group:%d pu:%d(indexes=", groups, in_group);
    write_indexes(out, cpus, count * groups * in_group);
    fputc(')', out);
    int failed = ferror(out);
    if (fclose(out) == 0 && !failed)
        return text;
    free(text);
    return NULL;
}

hwloc_topology_t hwnuma_load_for_binding(hwloc_const_bitmap_t cpus, hwloc_const_bitmap_t nodes)
{
    hwloc_topology_t topology = NULL;
    char *description = describe(cpus, nodes);
    if (description == NULL || hwnuma_topology_init(&topology) < 0) {
        free(description);
        return NULL;
    }
    if (hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM) < 0
        || hwloc_topology_set_synthetic(topology, description) < 0 || hwloc_topology_load(topology) < 0) {
        hwnuma_topology_destroy(topology);
        topology = NULL;
    }
    free(description);
    return topology;
}

/* Bind, and read back; whatever is not as it was asked for is undone. */
static int bind_cpus(hwloc_topology_t topology, hwloc_const_bitmap_t cpus, hwloc_bitmap_t before, hwloc_bitmap_t found)
{
    if (hwloc_get_cpubind(topology, before, HWLOC_CPUBIND_THREAD) < 0
        || hwloc_set_cpubind(topology, cpus, HWLOC_CPUBIND_THREAD | HWLOC_CPUBIND_STRICT) < 0)
        return -1;
    if (hwloc_get_cpubind(topology, found, HWLOC_CPUBIND_THREAD) == 0 && hwloc_bitmap_isequal(found, cpus))
        return 0;
    hwloc_linux_set_tid_cpubind(topology, 0, before);
    return -1;
}

static int set_policy(hwloc_topology_t topology, hwloc_const_bitmap_t nodes, int policy, int flags,
                      hwloc_bitmap_t found)
{
    unsigned long words[POLICY_WORDS];
    int mode;
    hwloc_membind_policy_t read_back;
    flags |= HWLOC_MEMBIND_THREAD | HWLOC_MEMBIND_BYNODESET;
    if (hwnuma_get_mempolicy(&mode, words, POLICY_WORDS * 8 * sizeof *words) < 0)
        return -1;
    if (hwloc_set_membind(topology, nodes, (hwloc_membind_policy_t) policy, flags) == 0
        && hwloc_get_membind(topology, found, &read_back, HWLOC_MEMBIND_THREAD | HWLOC_MEMBIND_BYNODESET) == 0
        && (int) read_back == policy && hwloc_bitmap_isequal(found, nodes))
        return 0;
    hwnuma_set_mempolicy(mode, words, POLICY_WORDS * 8 * sizeof *words);
    return -1;
}

int hwnuma_bind_self(const char *cpus, const char *nodes, int policy, int flags)
{
    hwloc_bitmap_t cpuset = hwloc_bitmap_alloc(), nodeset = hwloc_bitmap_alloc();
    hwloc_bitmap_t before = hwloc_bitmap_alloc(), found = hwloc_bitmap_alloc();
    hwloc_topology_t topology = NULL;
    int result = -1, with_memory = policy != HWLOC_MEMBIND_DEFAULT;
    if (cpuset != NULL && nodeset != NULL && before != NULL && found != NULL
        && hwloc_get_api_version() >> 16 == HWLOC_API_VERSION >> 16 && hwloc_get_api_version() >= HWLOC_API_VERSION
        && read_list(cpus, cpuset) == 0
        && (with_memory || *nodes ? read_list(nodes, nodeset) : hwloc_bitmap_set(nodeset, 0)) == 0
        && hwloc_bitmap_last(cpuset) <= HIGHEST_CPU /* a higher one is for the whole program to refuse, or not */
        && (topology = hwnuma_load_for_binding(cpuset, nodeset)) != NULL)
        result = bind_cpus(topology, cpuset, before, found);
    if (result == 0 && with_memory && (result = set_policy(topology, nodeset, policy, flags, found)) < 0)
        hwloc_linux_set_tid_cpubind(topology, 0, before);
    if (topology != NULL)
        hwnuma_topology_destroy(topology);
    hwloc_bitmap_free(cpuset), hwloc_bitmap_free(nodeset), hwloc_bitmap_free(before), hwloc_bitmap_free(found);
    return result;
}
