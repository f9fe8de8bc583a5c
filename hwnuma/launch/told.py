"""What one process is told of its place, by its launcher or on its command line."""

from __future__ import annotations

from hwnuma.environment.omp import OmpVariables
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.option_table import Count, Option, attributes_text, said, switch, values_of
from hwnuma.model.plan import Binding
from hwnuma.model.value import Value, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from hwnuma.model.options import MemoryPolicy

THIS_PROCESS = "of this process"


class Told(Value):
    """What one process is told: its rank, or the place itself as a launcher has planned it."""

    local_rank: int | None = field(
        default=None,
        option=Option(
            "--local-rank",
            Count(),
            "this process's rank on its machine (default: from the launcher)",
            "N",
            THIS_PROCESS,
        ),
    )
    cpus: CpuSet | None = field(
        default=None,
        option=Option("--cpus", CpuSet, "bind to these CPUs, and plan nothing", "LIST", THIS_PROCESS, example="0"),
    )
    nodes: NodeSet = field(
        default=NodeSet(),
        option=Option(
            "--nodes",
            NodeSet,
            "with --cpus and --memory: the NUMA nodes for the memory",
            "LIST",
            THIS_PROCESS,
            example="0",
        ),
    )
    omp: OmpVariables = field(
        default=OmpVariables.OFF,
        option=Option(
            "--omp",
            OmpVariables,
            "set OMP_NUM_THREADS and OMP_PLACES; torchrun: also replace the 1 that it forces",
            values_of(OmpVariables),
            THIS_PROCESS,
            example="set",
            bare="set",
            words=tuple(member.value for member in OmpVariables),
        ),
    )
    verbose: bool = field(
        default=False,
        option=Option("--verbose", switch, "say in a line where this rank is bound, and why", "", THIS_PROCESS),
    )

    @classmethod
    def asked(cls, texts: Mapping[str, str | None], environment: Mapping[str, str]) -> Told:
        """Make it of what the command line and the environment say.

        Raises:
            OptionError: a value makes no sense.
        """
        return cls(**said(cls, texts, environment))

    def place(self, memory: MemoryPolicy) -> Binding | None:
        """The place that was handed over, with the memory policy that goes with it; None if it is to be planned."""
        if self.cpus is None:
            return None
        return Binding(self.local_rank or 0, cpuset=self.cpus, nodeset=self.nodes, memory=memory)


Told.__doc__ = f"{Told.__doc__}\n{attributes_text(Told)}"
