"""OMP_NUM_THREADS and OMP_PLACES for a command that is bound. Pure.

OMP_PLACES alone would turn on pinning (OMP_PROC_BIND is true then by default), the first thread's included, and what it
starts later, such as data loaders, would inherit that single core. So where the user has not said OMP_PROC_BIND, it is
set to false: the places say where threads belong once somebody asks for pinning.
"""

from __future__ import annotations

from hwnuma.errors import OptionError
from hwnuma.model.characters import shown
from hwnuma.model.choice import Choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hwnuma.model.bitmap import CpuSet

# Who sets one of these has chosen places already (libgomp's and LLVM's manuals).
_PLACES = ("OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


class OmpVariables(Choice):
    """What to do with OpenMP's variables of a command."""

    OFF = "off"
    """Nothing."""

    SET = "set"
    """Set OMP_NUM_THREADS and OMP_PLACES from the binding's cores, each unless the user has."""

    TORCHRUN = "torchrun"
    """The same, and replace OMP_NUM_THREADS=1 under torchrun, which puts that in where the user sets none."""

    @classmethod
    def _missing_(cls, value: object) -> OmpVariables:
        switches = {"1": cls.SET, "true": cls.SET, "0": cls.OFF, "false": cls.OFF}
        if str(value).lower() in switches:
            return switches[str(value).lower()]
        raise OptionError(f"{shown(str(value))} is none of {', '.join(member.value for member in cls)}")


def omp_environment(choice: OmpVariables, cores: Sequence[CpuSet], environment: Mapping[str, str]) -> dict[str, str]:
    """Work out the variables to add to a command's environment.

    Args:
        choice: what was asked for.
        cores: the CPUs of each core that the command is bound to.
        environment: what it has already.
    """
    if choice is OmpVariables.OFF or not cores:
        return {}
    added = {}
    forced = choice is OmpVariables.TORCHRUN and is_forced_by_torchrun(environment)
    if environment.get("OMP_NUM_THREADS", "") == "" or forced:
        added["OMP_NUM_THREADS"] = str(len(cores))
    if all(environment.get(name, "") == "" for name in _PLACES):
        added["OMP_PLACES"] = ",".join(f"{{{','.join(map(str, core))}}}" for core in cores)
        if environment.get("OMP_PROC_BIND", "") == "":
            added["OMP_PROC_BIND"] = "false"
    return added


def is_forced_by_torchrun(environment: Mapping[str, str]) -> bool:
    """Whether OMP_NUM_THREADS=1 is, or may be, torchrun's own: it sets that for several workers if nobody has.

    A user's own 1 looks just the same, so this is acted on only if asked for.
    """
    several = environment.get("LOCAL_WORLD_SIZE", "").lstrip("0") not in ("", "1")
    return several and "TORCHELASTIC_RUN_ID" in environment and environment.get("OMP_NUM_THREADS") == "1"
