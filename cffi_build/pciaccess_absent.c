/* The carried libhwloc was linked with libpciaccess, for its component "pci", which hwnuma never uses: PCI devices
 * come from sysfs, by libhwloc's component "linux". These definitions let it load where libpciaccess is not
 * installed, and answer, should anybody ask, that there is no PCI access (pci_system_init returns an errno). Their
 * names are made private too (carry.py), so that they never stand in for a real libpciaccess of the same process. */
#include "hwnuma_names.h"
#include <errno.h>
#include <stddef.h>

int pci_system_init(void) { return ENOSYS; }
void pci_system_cleanup(void) {}
void *pci_slot_match_iterator_create(const void *match) { (void)match; return NULL; }
void *pci_device_next(void *iterator) { (void)iterator; return NULL; }
void pci_iterator_destroy(void *iterator) { (void)iterator; }
int pci_device_probe(void *device) { (void)device; return ENOSYS; }
int pci_device_cfg_read(void *device, void *data, size_t offset, size_t size, size_t *bytes_read)
{
    (void)device, (void)data, (void)offset, (void)size, (void)bytes_read;
    return ENOSYS;
}
void pci_get_strings(const void *match, const char **device, const char **vendor, const char **subdevice,
                     const char **subvendor)
{
    (void)match;
    if (device) *device = NULL;
    if (vendor) *vendor = NULL;
    if (subdevice) *subdevice = NULL;
    if (subvendor) *subvendor = NULL;
}
