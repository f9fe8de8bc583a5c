/* What hwnuma.measure uses of kernels.h, for cffi. */
struct hwnuma_team {
    int threads, arrived, stop;
    double factor;
};
enum hwnuma_kind { KIND_READ, KIND_WRITE, KIND_COPY, KIND_TRIAD };
struct hwnuma_done {
    double start, end, count;
    size_t place;
};
int hwnuma_is_nontemporal(void);
void hwnuma_stream(struct hwnuma_team *team, int kind, double *a, double *b, double *c, size_t size, double seconds,
                   struct hwnuma_done *done);
void hwnuma_make_ring(void *buffer, size_t bytes, size_t line, uint64_t seed);
void hwnuma_chase(struct hwnuma_team *team, void *buffer, double seconds, struct hwnuma_done *done);
void hwnuma_touch(void *buffer, size_t bytes);
void *hwnuma_map(size_t bytes, int huge_pages);
int hwnuma_unmap(void *buffer, size_t bytes);
