"""Every error that hwnuma raises.

::

    HwnumaError
    ├── OptionError (ValueError)                    an argument, option or environment value makes no sense
    ├── HwlocError (OSError)                        a libhwloc call failed; ``errno`` says how
    ├── HwlocVersionError (ImportError)             the libhwloc that runs does not fit the one built against
    ├── TopologyFileError (ValueError)              a topology cannot be read, or cannot be
    ├── ClosedTopologyError (ValueError)            a topology was used after ``close()``
    ├── NotThisSystemError (RuntimeError)           binding through a topology of another machine
    ├── GpuError (RuntimeError)                     no way to find out which GPUs there are
    │   ├── NvmlError                               NVML itself failed
    │   ├── GpuNotFoundError (LookupError)          a GPU was asked for that is not there
    │   └── GpuRuntimeError                         CUDA or HIP, asked to time copies, failed
    ├── PlanError (RuntimeError)                    one rank cannot be placed
    │   ├── UnknownLocalityError                    nothing says which NUMA node the GPU is on
    │   ├── NoAllowedCpusError                      the GPU's CPUs are all disallowed here
    │   └── NotEnoughCoresError                     fewer cores than ranks that want their own
    ├── LocalRankError (LookupError)                no launcher told this process its rank
    ├── JobError (RuntimeError)                     a command that was run to measure it failed
    └── BindingError (OSError)                      the kernel refused a binding, or did another one

Each carries one sentence that says what was tried, what was found and what to do. All are picklable.

What is wrong and stops nothing is a warning (`warn`) of the logger ``hwnuma``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable


class HwnumaError(Exception):
    """Root of all errors that hwnuma raises on purpose.

    What to do: catch this one to catch all of them. On the command line, read the line: it ends with the remedy.
    """


class OptionError(HwnumaError, ValueError):
    """An argument, a command line option or an environment variable has a value that makes no sense.

    What to do: the message names the value and what it may be. With ``HWNUMA_STRICT`` set, that includes a misspelt
    variable.
    """


class HwlocError(HwnumaError, OSError):
    """A libhwloc function failed; ``errno`` and ``strerror`` as in OSError, the function's name in the text.

    What to do: EPERM and EACCES: something denies the call, such as a container's seccomp filter. ENOMEM: there is
    too little memory. For any other, try ``lstopo`` on the same machine: what fails there too is libhwloc's.
    """


class HwlocVersionError(HwnumaError, ImportError):
    """The libhwloc that was loaded does not fit the one that the extension module was built against.

    What to do: reinstall hwnuma where it runs, or take the wheel, which carries its own libhwloc; the message names
    both versions. In a source tree, ``pip install -e .`` builds what is missing.
    """


class TopologyFileError(HwnumaError, ValueError):
    """A saved or synthetic topology cannot be read, or a machine is described that cannot be.

    What to do: save the machine again with ``hwnuma capture``, or with ``lstopo``; the message says which part is
    wrong.
    """


class ClosedTopologyError(HwnumaError, ValueError):
    """A Topology was used after it was closed.

    What to do: take what is needed out of the ``with`` block as a value: ``machine()`` stays good.
    """


class NotThisSystemError(HwnumaError, RuntimeError):
    """Binding was asked for through a topology that does not describe the running system.

    What to do: plan with a saved machine, and bind on the machine itself: ``Topology.from_this_system()``.
    """


class GpuError(HwnumaError, RuntimeError):
    """It cannot be found out which GPUs there are.

    What to do: name them (``--gpus`` with indexes or PCI addresses), or say that there are none: ``--gpus none
    --ranks N``.
    """


class NvmlError(GpuError):
    """NVML, the NVIDIA driver's management library, failed or is not there.

    What to do: try ``nvidia-smi``, which asks the same library. ``--gpus auto`` does without it, by the PCI devices
    alone; a driver that needs longer gets it with ``HWNUMA_NVML_TIMEOUT``.
    """


class GpuNotFoundError(GpuError, LookupError):
    """A GPU was asked for that this machine does not have, or that is not visible.

    What to do: ``hwnuma gpus`` lists those that there are; ``CUDA_VISIBLE_DEVICES`` and its like may leave some out.
    """


class GpuRuntimeError(GpuError):
    """CUDA or HIP failed or is not there: `hwnuma bench` asks them to time copies.

    What to do: install the driver's library on this machine, or do without the copies: memory is measured all the
    same.
    """


class JobError(HwnumaError, RuntimeError):
    """A command that was run to measure it did not end well; `last_lines` is the end of its standard error.

    What to do: run the command by itself until it ends with 0.
    """

    def __init__(self, sentence: str, last_lines: tuple[str, ...] = ()) -> None:
        super().__init__(sentence, last_lines)
        self.last_lines = last_lines

    def __str__(self) -> str:
        return str(self.args[0])


class PlanError(HwnumaError, RuntimeError):
    """One rank cannot be placed; the others of its plan may well be.

    What to do: as the kinds of it say, below; ``--fallback unbound`` runs such a rank unbound, with a warning.
    """


class UnknownLocalityError(PlanError):
    """No source says which NUMA node a GPU is on.

    What to do: state it (``--gpu-node 0=0,1=0,…``), or give NCCL's file (``--nccl-topo``). In a virtual machine, the
    hypervisor hides it. ``--unknown-locality node0`` takes the first node, as torch does, whether that is right or
    not.
    """


class NoAllowedCpusError(PlanError):
    """Of the CPUs near a GPU, none is allowed to this process.

    What to do: ask the scheduler for CPUs near the GPU, or take the nearest that are allowed: ``--fallback nearest``.
    """


class NotEnoughCoresError(PlanError):
    """A node has fewer cores than ranks that want cores of their own.

    What to do: start fewer ranks, ask the scheduler for more cores, or share them: ``--mode node``.
    """


class LocalRankError(HwnumaError, LookupError):
    """The environment does not tell, or tells contradictory things about, this process's local rank.

    What to do: say it: ``--local-rank N`` or ``HWNUMA_LOCAL_RANK``, and how many ranks there are, ``--ranks N``.
    """


class BindingError(HwnumaError, OSError):
    """The kernel refused a binding, or reading back showed another one than was asked for.

    What to do: EPERM: the process is another user's, or a container denies the call. With a memory policy, try
    without. CPUs that the kernel left out are offline or not in the cgroup. ``hwnuma exec --fallback unbound`` runs
    the command all the same.
    """


# ---- messages ------------------------------------------------------------------------------------------------

# How the command line shows messages: the beginning of each line, what makes a line of a message, and whether details
# are shown. None in a program that only imports hwnuma, which sets up logging as it likes.
_shown: tuple[str, Callable[[str], str], bool] | None = None


def show_messages(beginning: str, one_line: Callable[[str], str], *, details: bool = False) -> None:
    """Let messages appear on standard error, as a command line wants them.

    Args:
        beginning: of each line.
        one_line: makes one line that is safe to show of a message, which may repeat what a process or a driver says.
        details: show those of `inform` too.
    """
    global _shown  # noqa: PLW0603 -- as logging's own set-up, it is the process's
    _shown = beginning, one_line, details


def _logger() -> logging.Logger:
    """Hwnuma's logger. logging is imported when there is something to say: it costs more than Python's own start."""
    import logging

    if _shown is not None and not logging.getLogger().handlers:
        beginning, one_line, details = _shown

        class OneLine(logging.Formatter):
            def format(self, record: logging.LogRecord) -> str:
                return one_line(super().format(record))

        handler = logging.StreamHandler()
        handler.setFormatter(OneLine(f"{beginning}%(message)s"))
        logging.basicConfig(handlers=[handler], level=logging.INFO if details else logging.WARNING)
    return logging.getLogger("hwnuma")


def warn(sentence: str) -> None:
    """Log a warning."""
    _logger().warning("%s", sentence)


def inform(sentence: str) -> None:
    """Log a detail, if somebody listens: who has not imported logging has not asked for details."""
    import sys

    if (_shown is not None and _shown[2]) or "logging" in sys.modules:
        _logger().info("%s", sentence)
