"""Every error that hwnuma raises.

::

    HwnumaError
    ├── OptionError (ValueError)                    an argument, option or environment value makes no sense
    ├── HwlocError (OSError)                        a libhwloc call failed; ``errno`` says how
    ├── HwlocVersionError (ImportError)             the libhwloc that runs does not fit the one built against
    ├── TopologyFileError (ValueError)              a saved topology cannot be read
    ├── ClosedTopologyError (ValueError)            a topology was used after ``close()``
    ├── NotThisSystemError (RuntimeError)           binding through a topology of another machine
    ├── GpuError (RuntimeError)                     no way to find out which GPUs there are
    │   ├── NvmlError                               NVML itself failed
    │   └── GpuNotFoundError (LookupError)          a GPU was asked for that is not there
    ├── PlanError (RuntimeError)                    one rank cannot be placed
    │   ├── UnknownLocalityError                    nothing says which NUMA node the GPU is on
    │   ├── NoAllowedCpusError                      the GPU's CPUs are all disallowed here
    │   └── NotEnoughCoresError                     fewer cores than ranks that want their own
    ├── LocalRankError (LookupError)                no launcher told this process its rank
    └── BindingError (OSError)                      the kernel refused a binding, or did another one

Each carries one sentence that says what was tried, what was found and what to do. All are picklable.
"""


class HwnumaError(Exception):
    """Root of all errors that hwnuma raises on purpose."""


class OptionError(HwnumaError, ValueError):
    """An argument, a command line option or an environment variable has a value that makes no sense."""


class HwlocError(HwnumaError, OSError):
    """A libhwloc function failed; ``errno`` and ``strerror`` as in OSError, the function's name in the text."""


class HwlocVersionError(HwnumaError, ImportError):
    """The libhwloc that was loaded does not fit the one that the extension module was built against."""


class TopologyFileError(HwnumaError, ValueError):
    """A saved or synthetic topology cannot be read, or describes no machine."""


class ClosedTopologyError(HwnumaError, ValueError):
    """A Topology was used after it was closed."""


class NotThisSystemError(HwnumaError, RuntimeError):
    """Binding was asked for through a topology that does not describe the running system."""


class GpuError(HwnumaError, RuntimeError):
    """It cannot be found out which GPUs there are."""


class NvmlError(GpuError):
    """NVML, the NVIDIA driver's management library, failed or is not there."""


class GpuNotFoundError(GpuError, LookupError):
    """A GPU was asked for that this machine does not have, or that is not visible."""


class PlanError(HwnumaError, RuntimeError):
    """One rank cannot be placed; the others of its plan may well be."""


class UnknownLocalityError(PlanError):
    """No source says which NUMA node a GPU is on."""


class NoAllowedCpusError(PlanError):
    """Of the CPUs near a GPU, none is allowed to this process."""


class NotEnoughCoresError(PlanError):
    """A node has fewer cores than ranks that want cores of their own."""


class LocalRankError(HwnumaError, LookupError):
    """The environment does not tell, or tells contradictory things about, this process's local rank."""


class BindingError(HwnumaError, OSError):
    """The kernel refused a binding, or reading back showed another one than was asked for."""
