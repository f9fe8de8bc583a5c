/* libFuzzer on what reads bytes in C: the look at a document, and the list of CPUs that a rank is bound by.
 *
 * The look promises: it ends, and reads nothing beyond the terminating zero byte. The list promises: what is taken is
 * written as libhwloc writes the same set. */
#include "bind_self.c" /* its read_list is static */

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hwnuma_xml found;
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    char *text = malloc(size + 1), *written; /* of just this size, so that a byte beyond it is told */
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    hwnuma_look_at_xml(text, &found);
    if (read_list(text, set) == 0 && hwloc_bitmap_list_asprintf(&written, set) >= 0) {
        if (strcmp(text, written) != 0)
            __builtin_trap();
        free(written);
    }
    hwloc_bitmap_free(set);
    free(text);
    return 0;
}
