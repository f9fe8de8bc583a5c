/* Use every C file of the extension as Python does, without Python: what the sanitizers and valgrind say here is of
 * libhwloc and of what is beside it in cffi_build, and of nothing else.
 *
 *   exercise all FILE.xml ...     each file, and what needs none, once
 *   exercise loads N FILE.xml     load, copy out and free so often
 *
 * What happens where each of their calls fails in turn is failing.c's. */
#define _GNU_SOURCE
#include "hwnuma.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

static char *document;
static int size; /* with the terminating zero byte */

static void give_up(const char *what)
{
    fprintf(stderr, "exercise: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void read_document(const char *path)
{
    FILE *file = fopen(path, "r");
    long length;
    if (file == NULL || fseek(file, 0, SEEK_END) < 0 || (length = ftell(file)) < 0)
        give_up(path);
    rewind(file);
    free(document);
    document = malloc((size_t) length + 1);
    if (document == NULL || fread(document, 1, (size_t) length, file) != (size_t) length)
        give_up(path);
    document[length] = '\0';
    size = (int) length + 1;
    fclose(file);
}

static hwloc_topology_t load(int wanted)
{
    hwloc_topology_t topology = hwnuma_new_topology(wanted);
    if (topology == NULL)
        return NULL;
    if ((document == NULL || hwloc_topology_set_xmlbuffer(topology, document, size) == 0)
        && hwloc_topology_load(topology) == 0)
        return topology;
    hwnuma_topology_destroy(topology);
    return NULL;
}

static void copy_and_free(int wanted)
{
    struct hwnuma_text text;
    hwloc_topology_t topology = load(wanted);
    if (topology == NULL || hwnuma_copy_out(topology, &text) < 0)
        give_up("a topology is not loaded or not copied out");
    free(text.bytes);
    hwnuma_lacks_caches(topology);
    if (hwnuma_add_info(topology, 1, "mlx5_0", "Rate", "200") < 0 || hwnuma_add_info(topology, 0, "eth0", "Rate", "1") < 0)
        give_up("an info attribute is not added");
    hwnuma_topology_destroy(topology);
}

static void try_document(const char *text, int length)
{
    struct hwnuma_trial trial;
    struct hwnuma_xml found;
    hwnuma_look_at_xml(text, &found);
    if (hwnuma_try_xml(text, length, WANT_PCI | WANT_NETWORK, &trial) < 0)
        give_up("no process to try a document in");
    free(trial.bytes);
}

static void bind_and_back(void)
{
    static const char *const lists[] = {"0", "0-1", "", "01", "0,0", "0-", "8192", "0-63", "99999999999", "x", "0,2-4,9"};
    cpu_set_t before;
    sched_getaffinity(0, sizeof before, &before);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        hwnuma_bind_self(lists[i], "", HWLOC_MEMBIND_DEFAULT, 0);
        hwnuma_bind_self("0", lists[i], HWLOC_MEMBIND_BIND, HWLOC_MEMBIND_STRICT);
    }
    hwnuma_set_mempolicy(0, NULL, 0);
    sched_setaffinity(0, sizeof before, &before);
}

static void exercise_all(int count, char **paths)
{
    copy_and_free(WANT_PCI | WANT_NETWORK | WANT_FIRST_CACHES); /* this system */
    copy_and_free(0);
    bind_and_back();
    for (int i = 0; i < count; i++) {
        read_document(paths[i]);
        copy_and_free(WANT_PCI | WANT_NETWORK | WANT_FIRST_CACHES);
        copy_and_free(WANT_PCI);
        try_document(document, size);
        for (int cut = 1; cut < size; cut += size / 40 + 1) { /* what was cut short is refused */
            char *part = strndup(document, (size_t) (size - 1 - cut));
            struct hwnuma_xml found;
            hwnuma_look_at_xml(part, &found);
            free(part);
        }
        document[size / 2] = '\0';
        try_document(document, size / 2 + 1);
    }
    printf("all of it was used, on %d files\n", count);
}

int main(int count, char **words)
{
    int status = 0;
    if (count > 2 && strcmp(words[1], "all") == 0) {
        exercise_all(count - 2, words + 2);
    } else if (count == 4 && strcmp(words[1], "loads") == 0) {
        read_document(words[3]);
        for (int i = 0; i < atoi(words[2]); i++)
            copy_and_free(WANT_PCI | WANT_NETWORK);
        printf("%s loads\n", words[2]);
    } else {
        status = 2;
    }
    free(document);
    return status;
}
