/* Let each call fail that the C files of the extension make and that can fail: first the first, then the second, and so
 * on, in a child each. They are compiled with each of these calls under another name (-Dmalloc=failing_malloc), which is
 * here; libhwloc itself is left alone, since it does not survive a lack of memory of its own.
 *
 *   failing FILE.xml */
#define _GNU_SOURCE
#include "hwnuma.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

static long calls, failing; /* how many there have been, and which one fails; 0: none */
static struct { char name[64]; } *shared; /* the call that failed, told by the child */
static char document[1 << 20];
static int size; /* with the terminating zero byte */

static int fails(const char *name)
{
    if (failing == 0 || ++calls != failing)
        return 0;
    strncpy(shared->name, name, sizeof shared->name - 1);
    errno = ENOMEM;
    return 1;
}

#define FAILING(type, name, failure, parameters, arguments) \
    type failing_##name parameters { return fails(#name) ? (failure) : name arguments; }

FAILING(void *, malloc, NULL, (size_t room), (room))
FAILING(void *, realloc, NULL, (void *pointer, size_t room), (pointer, room))
FAILING(FILE *, open_memstream, NULL, (char **text, size_t *room), (text, room))
FAILING(void *, mmap, MAP_FAILED, (void *at, size_t room, int protection, int flags, int file, off_t offset),
        (at, room, protection, flags, file, offset))
FAILING(pid_t, fork, -1, (void), ())
FAILING(int, fclose, EOF, (FILE *file), (file))
FAILING(hwloc_bitmap_t, hwloc_bitmap_alloc, NULL, (void), ())
FAILING(int, hwloc_bitmap_or, -1, (hwloc_bitmap_t to, hwloc_const_bitmap_t one, hwloc_const_bitmap_t other),
        (to, one, other))
FAILING(int, hwloc_bitmap_set_range, -1, (hwloc_bitmap_t set, unsigned begin, int end), (set, begin, end))
FAILING(int, hwloc_topology_init, -1, (hwloc_topology_t *topology), (topology))
FAILING(int, hwloc_topology_load, -1, (hwloc_topology_t topology), (topology))
FAILING(int, hwloc_topology_set_flags, -1, (hwloc_topology_t topology, unsigned long flags), (topology, flags))
FAILING(int, hwloc_topology_set_io_types_filter, -1, (hwloc_topology_t topology, enum hwloc_type_filter_e filter),
        (topology, filter))
FAILING(int, hwloc_topology_set_xmlbuffer, -1, (hwloc_topology_t topology, const char *text, int room),
        (topology, text, room))
FAILING(int, hwloc_topology_set_synthetic, -1, (hwloc_topology_t topology, const char *text), (topology, text))
FAILING(int, hwloc_obj_add_info, -1, (hwloc_obj_t object, const char *name, const char *value), (object, name, value))
FAILING(int, hwloc_get_cpubind, -1, (hwloc_topology_t topology, hwloc_bitmap_t set, int flags), (topology, set, flags))
FAILING(int, hwloc_set_cpubind, -1, (hwloc_topology_t topology, hwloc_const_bitmap_t set, int flags),
        (topology, set, flags))

static hwloc_topology_t loaded;
static struct hwnuma_text whole; /* what hwnuma_copy_out writes where nothing fails */

/* Each returns 0 if it did all, -1 if it said that it could not, and 1 if what it says is wrong. */
static int copy_out(void)
{
    struct hwnuma_text text;
    int wrong;
    if (hwnuma_copy_out(loaded, &text) < 0)
        return -1;
    wrong = text.used != whole.used || memcmp(text.bytes, whole.bytes, text.used) != 0;
    free(text.bytes);
    return wrong;
}

static int lacks_caches(void)
{
    hwnuma_lacks_caches(loaded); /* without memory it says yes: then more is looked at */
    return failing > 0 && calls >= failing ? -1 : 0;
}

static int add_info(void)
{
    return hwnuma_add_info(loaded, 1, "mlx5_0", "HwnumaTest", "1");
}

static int new_topology(void)
{
    hwloc_topology_t topology = hwnuma_new_topology(WANT_PCI);
    if (topology == NULL)
        return -1;
    hwnuma_topology_destroy(topology);
    return 0;
}

static int try_xml(void)
{
    struct hwnuma_trial trial;
    int wrong;
    if (hwnuma_try_xml(document, size, WANT_PCI | WANT_NETWORK | WANT_FIRST_CACHES, &trial) < 0)
        return -1;
    if (trial.outcome != TRIAL_LOADED)
        return -1;
    wrong = trial.size != whole.used || memcmp(trial.bytes, whole.bytes, whole.used) != 0;
    free(trial.bytes);
    return wrong;
}

static int bind_self(void)
{
    cpu_set_t found;
    if (hwnuma_bind_self("0", "0", HWLOC_MEMBIND_DEFAULT, 0) < 0)
        return -1;
    sched_getaffinity(0, sizeof found, &found);
    return CPU_COUNT(&found) != 1 || !CPU_ISSET(0, &found);
}

/* Let each call fail once; what is to be is an answer, or an error. */
static int let_each_fail(const char *name, int (*use)(void))
{
    int status, refused = 0, same = 0, wrong = 0, died = 0, code = -1;
    for (long n = 1; code != 2; n++) {
        pid_t child;
        fflush(stdout);
        if ((child = fork()) == 0) {
            int result;
            failing = n;
            result = use();
            code = calls < n ? 2 : result == 0 ? 3 : result < 0 ? 4 : 5; /* 2: there is no n-th one */
            failing = 0;
            _exit(code);
        }
        waitpid(child, &status, 0);
        code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        same += code == 3;
        refused += code == 4;
        wrong += code == 5;
        died += code < 2 || code > 5;
        if (code < 2 || code > 4)
            printf("%s: call %ld (%s): %s (status %d)\n", name, n, shared->name, code == 5 ? "a wrong answer" : "it died", status);
    }
    printf("%s: %d calls failed: %d errors, %d answers the same, %d wrong, %d died\n", name,
           same + refused + wrong + died, refused, same, wrong, died);
    return wrong + died;
}

int main(int count, char **words)
{
    FILE *file = count == 2 ? fopen(words[1], "r") : NULL;
    int bad;
    size = file == NULL ? 0 : (int) fread(document, 1, sizeof document - 1, file) + 1;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    loaded = hwnuma_new_topology(WANT_PCI | WANT_NETWORK | WANT_FIRST_CACHES);
    if (size == 0 || shared == MAP_FAILED || loaded == NULL || hwloc_topology_set_xmlbuffer(loaded, document, size) < 0
        || hwloc_topology_load(loaded) < 0 || hwnuma_copy_out(loaded, &whole) < 0) {
        fprintf(stderr, "failing: cannot load the file that is to be named\n");
        return 2;
    }
    fclose(file);
    bad = let_each_fail("hwnuma_copy_out", copy_out);
    bad += let_each_fail("hwnuma_lacks_caches", lacks_caches);
    bad += let_each_fail("hwnuma_add_info", add_info);
    bad += let_each_fail("hwnuma_new_topology", new_topology);
    bad += let_each_fail("hwnuma_bind_self", bind_self);
    bad += let_each_fail("hwnuma_try_xml", try_xml);
    hwnuma_topology_destroy(loaded);
    free(whole.bytes);
    return bad != 0;
}

