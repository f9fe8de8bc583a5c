/* What the kernels of `hwnuma bench` offer to Python: threads that Python starts, and that begin at once in here.
 *
 * No thread is started here: a worker is bound by hwnuma itself, in Python, before it comes here. And the wheel asks for
 * no newer C library than the rest of it does (pthread_create has a new version in glibc 2.34). */
#ifndef KERNELS_H
#define KERNELS_H
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

/* Threads that do one thing together. All zero but `threads` at first. */
struct hwnuma_team {
    int threads;       /* how many come */
    int arrived;       /* how many have come */
    int stop;          /* not 0: all end as soon as they can */
    double factor;     /* above 1: all takes so many times as long, for tests of who looks at times */
};

enum hwnuma_kind { KIND_READ, KIND_WRITE, KIND_COPY, KIND_TRIAD };

/* What a thread has done, between two moments of CLOCK_MONOTONIC, in seconds. */
struct hwnuma_done {
    double start, end;
    double count;      /* bytes, or loads */
    size_t place;      /* where to go on: an element of a slice, or of a ring */
};

/* Whether what is written goes past the caches. */
int hwnuma_is_nontemporal(void);

/* Stream through a slice of three arrays, from a place on and around, until the time is over or the team stops. */
void hwnuma_stream(struct hwnuma_team *team, int kind, double *a, double *b, double *c, size_t size, double seconds,
                   struct hwnuma_done *done);

/* Make one ring of all lines of a buffer, in random order. */
void hwnuma_make_ring(void *buffer, size_t bytes, size_t line, uint64_t seed);

/* Load each line of a ring from where the one before says that it is. Whoever chases stops the team at the end. */
void hwnuma_chase(struct hwnuma_team *team, void *buffer, double seconds, struct hwnuma_done *done);

/* Write to each page of a part of a buffer, so that it has memory. */
void hwnuma_touch(void *buffer, size_t bytes);

/* Map memory that begins at a huge page's border and has a mapping of its own: what is around it cannot be touched.
 * NULL with errno. */
void *hwnuma_map(size_t bytes, int huge_pages);
int hwnuma_unmap(void *buffer, size_t bytes);

#pragma GCC visibility pop
#endif
