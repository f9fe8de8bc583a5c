/* The peers of `hwnuma bench`: STREAM's copy and triad, and a chase as lmbench's.
 *
 * Copy and triad, what they count and that the best time counts are as John D. McCalpin published them ("Memory
 * Bandwidth and Machine Balance in Current High Performance Computers", IEEE TCCA Newsletter, December 1995;
 * https://www.cs.virginia.edu/stream/); this is an implementation of our own. The chase is that of lat_mem_rd -t of
 * lmbench (McVoy and Staelin, "lmbench: Portable Tools for Performance Analysis", USENIX 1996): a line of each page in
 * turn, pages in random order, then the next line of each. Likewise our own.
 *
 *     gcc -O3 -fopenmp [-DNONTEMPORAL] -o stream stream.c
 *     stream ELEMENTS THREADS
 *
 * Then for each line of standard input, copy, triad or chase, it writes the bytes a second, or the seconds of a load. */
#define _GNU_SOURCE
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#ifdef NONTEMPORAL
#include <emmintrin.h>
#endif

enum { HUGE_PAGE = 2 << 20, PAGE = 4096, LINE = 64 };

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double) time.tv_sec + 1e-9 * (double) time.tv_nsec;
}

static void *memory(size_t bytes)
{
    void *found = aligned_alloc(HUGE_PAGE, (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
    if (found == NULL)
        exit(1);
    madvise(found, bytes, MADV_HUGEPAGE);
    return found;
}

static double copy(double *restrict c, const double *restrict a, long size)
{
    double start = now();
#ifdef NONTEMPORAL
#pragma omp parallel for
    for (long i = 0; i < size; i += 2)
        _mm_stream_pd(c + i, _mm_load_pd(a + i));
#else
#pragma omp parallel for
    for (long i = 0; i < size; i++)
        c[i] = a[i];
#endif
    return 16.0 * (double) size / (now() - start);
}

static double triad(double *restrict a, const double *restrict b, const double *restrict c, long size)
{
    double start = now();
#ifdef NONTEMPORAL
    const __m128d factor = _mm_set1_pd(3.0);
#pragma omp parallel for
    for (long i = 0; i < size; i += 2)
        _mm_stream_pd(a + i, _mm_add_pd(_mm_load_pd(b + i), _mm_mul_pd(factor, _mm_load_pd(c + i))));
#else
#pragma omp parallel for
    for (long i = 0; i < size; i++)
        a[i] = b[i] + 3.0 * c[i];
#endif
    return 24.0 * (double) size / (now() - start);
}

/* The numbers below a number, in random order. */
static long *shuffled(long count)
{
    long *order = malloc((size_t) count * sizeof *order);
    for (long i = 0; i < count; i++)
        order[i] = i;
    for (long i = count - 1; i > 0; i--) {
        long j = rand() % (i + 1), held = order[i];
        order[i] = order[j];
        order[j] = held;
    }
    return order;
}

static void **ring_of(char *base, size_t bytes)
{
    long pages = (long) (bytes / PAGE), lines = PAGE / LINE, *page = shuffled(pages), *line = shuffled(lines);
    void **first = (void **) (base + page[0] * PAGE + line[0] * LINE), **last = first;
    for (long i = 1; i < pages * lines; i++) {
        void **next = (void **) (base + page[i % pages] * PAGE + line[i / pages] * LINE);
        *last = next;
        last = next;
    }
    *last = first;
    free(page);
    free(line);
    return first;
}

static double chase(void ***at, double seconds)
{
    void **line = *at;
    double start = now(), end = start, loads = 0;
    while (end < start + seconds) {
        for (int i = 0; i < 512; i++)
            line = (void **) *line;
        __asm__ volatile("" : "+r"(line));
        loads += 512;
        end = now();
    }
    *at = line;
    return (end - start) / loads;
}

int main(int count, char **words)
{
    char asked[64];
    if (count < 3)
        return 2;
    long size = atol(words[1]);
    size_t bytes = (size_t) size * sizeof(double);
    omp_set_num_threads(atoi(words[2]));
    double *a = memory(bytes), *b = memory(bytes), *c = memory(bytes);
    char *lines = memory(bytes);
#pragma omp parallel for
    for (long i = 0; i < size; i++)
        a[i] = 1.0, b[i] = 2.0, c[i] = 0.0;
    memset(lines, 0, bytes);
    void **at = ring_of(lines, bytes);
    while (fgets(asked, sizeof asked, stdin) != NULL) {
        double found = strcmp(asked, "copy\n") == 0    ? copy(c, a, size)
                       : strcmp(asked, "triad\n") == 0 ? triad(a, b, c, size)
                                                       : chase(&at, 0.03);
        printf("%.9g\n", found);
        fflush(stdout);
    }
    return 0;
}
