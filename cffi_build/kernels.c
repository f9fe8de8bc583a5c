/* The loops whose time `hwnuma bench` takes. The compiler vectorises them (GCC's vector types, on every machine). */
#define _GNU_SOURCE
#include "kernels.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* A piece between two looks at the clock: 64 KiB of each array, some microseconds; a look takes 0.03. */
enum { PIECE = 8192, LOADS = 512, HUGE_PAGE = 2 << 20, SPINS = 2000 };

typedef double pair __attribute__((vector_size(16)));

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double) time.tv_sec + 1e-9 * (double) time.tv_nsec;
}

static void pause_a_little(int *spins)
{
#ifdef __SSE2__
    _mm_pause();
#endif
    if (++*spins % SPINS == 0)
        sched_yield(); /* another thread of the team may be waiting for this CPU */
}

static int is_stopped(const struct hwnuma_team *team)
{
    return __atomic_load_n(&team->stop, __ATOMIC_RELAXED);
}

/* Wait until all threads of the team are here. */
static void meet(struct hwnuma_team *team)
{
    int spins = 0;
    __atomic_add_fetch(&team->arrived, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&team->arrived, __ATOMIC_ACQUIRE) < team->threads && !is_stopped(team))
        pause_a_little(&spins);
}

/* Let what was done take as many times as long as the team's factor says. */
static void slow_down(const struct hwnuma_team *team, struct hwnuma_done *done)
{
    int spins = 0;
    if (team->factor <= 1)
        return;
    done->end = done->start + (done->end - done->start) * team->factor;
    while (now() < done->end)
        pause_a_little(&spins);
}

/* ---- bandwidth: `size` is a multiple of eight, and arrays begin at a cache line's border ---------------------- */

#ifdef __SSE2__
#define STORE(place, value) _mm_stream_pd((double *) (place), (__m128d) (value))
int hwnuma_is_nontemporal(void) { return 1; }
static void settle(void) { _mm_sfence(); }
#elif defined(__has_builtin) && __has_builtin(__builtin_nontemporal_store)
#define STORE(place, value) __builtin_nontemporal_store(value, place)
int hwnuma_is_nontemporal(void) { return 1; }
static void settle(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
#else
#define STORE(place, value) (*(place) = (value))
int hwnuma_is_nontemporal(void) { return 0; }
static void settle(void) {}
#endif

static double sum(const double *a, size_t size)
{
    /* Eight sums at once, or each addition would wait for the one before. */
    const pair *from = (const pair *) a;
    pair s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, s4 = {0}, s5 = {0}, s6 = {0}, s7 = {0};
    size_t i = 0;
    for (; i + 8 <= size / 2; i += 8) {
        s0 += from[i], s1 += from[i + 1], s2 += from[i + 2], s3 += from[i + 3];
        s4 += from[i + 4], s5 += from[i + 5], s6 += from[i + 6], s7 += from[i + 7];
    }
    for (; i < size / 2; i++)
        s0 += from[i];
    s0 += s1 + s2 + s3 + s4 + s5 + s6 + s7;
    return s0[0] + s0[1];
}

static void fill(double *a, size_t size)
{
    pair *to = (pair *) a;
    const pair value = {1.0, 1.0};
    for (size_t i = 0; i < size / 2; i++)
        STORE(to + i, value);
}

static void copy(double *c, const double *a, size_t size)
{
    const pair *from = (const pair *) a;
    pair *to = (pair *) c;
    for (size_t i = 0; i < size / 2; i++)
        STORE(to + i, from[i]);
}

static void triad(double *a, const double *b, const double *c, size_t size)
{
    const pair *one = (const pair *) b, *other = (const pair *) c;
    pair *to = (pair *) a;
    const pair factor = {3.0, 3.0};
    for (size_t i = 0; i < size / 2; i++)
        STORE(to + i, one[i] + factor * other[i]);
}

static volatile double sink; /* or the compiler leaves out a sum that nobody reads */

static double stream_piece(int kind, double *a, double *b, double *c, size_t size)
{
    switch (kind) {
    case KIND_READ:
        sink = sum(a, size);
        return 8.0 * (double) size;
    case KIND_WRITE:
        fill(a, size);
        return 8.0 * (double) size;
    case KIND_COPY:
        copy(c, a, size);
        return 16.0 * (double) size;
    default:
        triad(a, b, c, size);
        return 24.0 * (double) size;
    }
}

void hwnuma_stream(struct hwnuma_team *team, int kind, double *a, double *b, double *c, size_t size, double seconds,
                   struct hwnuma_done *done)
{
    meet(team);
    double at = done->start = now(), until = at + seconds;
    done->count = 0;
    while (at < until && !is_stopped(team)) {
        size_t place = done->place < size ? done->place : 0;
        size_t piece = size - place < PIECE ? size - place : PIECE;
        done->count += stream_piece(kind, a + place, b + place, c + place, piece);
        done->place = place + piece;
        at = now();
    }
    settle();
    done->end = now();
    slow_down(team, done);
}

/* ---- latency ---------------------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state) /* splitmix64 (Steele, Lea and Flood, 2014) */
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Sattolo's shuffle, whose permutations are all one cycle; each line holds its successor's address. */
void hwnuma_make_ring(void *buffer, size_t bytes, size_t line, uint64_t seed)
{
    char *base = buffer;
    size_t lines = bytes / line;
#define LINE(number) (*(void **) (base + (number) * line))
    for (size_t i = 0; i < lines; i++)
        LINE(i) = base + i * line;
    for (size_t i = lines - 1; i > 0; i--) {
        size_t j = next_random(&seed) % i;
        void *held = LINE(i);
        LINE(i) = LINE(j);
        LINE(j) = held;
    }
#undef LINE
}

void hwnuma_chase(struct hwnuma_team *team, void *buffer, double seconds, struct hwnuma_done *done)
{
    void **line = (void **) ((char *) buffer + done->place);
    meet(team);
    double at = done->start = now(), until = at + seconds;
    done->count = 0;
    while (at < until && !is_stopped(team)) {
        for (int i = 0; i < LOADS; i++)
            line = (void **) *line;
        __asm__ volatile("" : "+r"(line)); /* the loads are wanted */
        done->count += LOADS;
        at = now();
    }
    done->end = at;
    slow_down(team, done);
    done->place = (size_t) ((char *) line - (char *) buffer);
    __atomic_store_n(&team->stop, 1, __ATOMIC_RELAXED);
}

/* ---- memory ----------------------------------------------------------------------------------------------- */

void hwnuma_touch(void *buffer, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 4096)
        ((volatile char *) buffer)[i] = 1;
}

void *hwnuma_map(size_t bytes, int huge_pages)
{
    /* Address space alone, of which the middle becomes memory: a neighbour would share a line of numa_maps. */
    size_t all = bytes + 3 * (size_t) HUGE_PAGE;
    char *reserved = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return NULL;
    char *base = (char *) (((uintptr_t) reserved + 2 * HUGE_PAGE - 1) & ~((uintptr_t) HUGE_PAGE - 1));
    munmap(reserved, (size_t) (base - HUGE_PAGE - reserved));
    munmap(base + bytes + HUGE_PAGE, (size_t) (reserved + all - (base + bytes + HUGE_PAGE)));
    if (mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
        int failed = errno;
        munmap(base - HUGE_PAGE, bytes + 2 * (size_t) HUGE_PAGE);
        errno = failed;
        return NULL;
    }
    madvise(base, bytes, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE); /* what comes of it, smaps tells */
    return base;
}

int hwnuma_unmap(void *buffer, size_t bytes)
{
    return munmap((char *) buffer - HUGE_PAGE, bytes + 2 * (size_t) HUGE_PAGE);
}
