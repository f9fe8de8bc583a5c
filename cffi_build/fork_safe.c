/* Make and free topologies so that a process may fork meanwhile.
 *
 * libhwloc counts its users under a lock of its own (components.c, hwloc_components_mutex), in hwloc_topology_init and
 * hwloc_topology_destroy. A child that is forked while another thread holds it has no such thread that would give it
 * back, and hangs as soon as it makes a topology. So both are called under a lock for which fork waits. */
#include "hwnuma.h"

#include <pthread.h>

static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;

static void wait_for_it(void)
{
    pthread_mutex_lock(&counting);
}

static void go_on(void)
{
    pthread_mutex_unlock(&counting);
}

__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(wait_for_it, go_on, go_on);
}

int hwnuma_topology_init(hwloc_topology_t *topology)
{
    int result;
    wait_for_it();
    result = hwloc_topology_init(topology);
    go_on();
    return result;
}

void hwnuma_topology_destroy(hwloc_topology_t topology)
{
    wait_for_it();
    hwloc_topology_destroy(topology);
    go_on();
}
