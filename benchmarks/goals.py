"""The table's lines and what each is to be: the one place that says so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """What a figure is to be at most, or at least, or both: then `least` is the other bound."""

    limit: float
    at_least: bool = False
    least: float | None = None

    def met(self, value: float) -> bool:
        """Whether a median reaches it."""
        if self.least is not None and value < self.least:
            return False
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        if self.least is not None:
            return f"{self.least:g} to {self.limit:g}"
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        key: the row that measures it, a dot, and which of the row's figures it is.
        what: what is measured, for people.
        unit: of the figure: "x" is a ratio.
        goal: what it is to be; None for what stands there to compare with.
    """

    key: str
    what: str
    unit: str = "x"
    goal: Goal | None = None

    @property
    def row(self) -> str:
        """The row that measures it."""
        return self.key.partition(".")[0]

    @property
    def part(self) -> str:
        """Which of the row's figures it is."""
        return self.key.partition(".")[2]


def _at_most(limit: float) -> Goal:
    return Goal(limit)


def _between(least: float, limit: float) -> Goal:
    return Goal(limit, least=least)


def _at_least(limit: float) -> Goal:
    return Goal(limit, at_least=True)


LINES = (
    Line(
        "exec.planned",
        "`hwnuma exec --gpus none --ranks 2 --local-rank 0 --mode exclusive -- true` / bare Python",
        goal=_at_most(2.0),
    ),
    Line("exec.handed", "`hwnuma exec -- true`, plan handed over (`HWNUMA_CPUS`) / bare Python", goal=_at_most(1.3)),
    Line("exec.memory", "the same with a memory policy (`HWNUMA_MEMORY`) / bare Python"),
    Line("exec.taskset", "`taskset -c 0 true` / bare Python"),
    Line("exec.numactl", "`numactl --physcpubind=0 true` / bare Python"),
    Line("exec.hwloc", "`hwloc-bind pu:0 -- true` / bare Python"),
    Line("ranks.handed", "8 ranks at once, the plan handed over / 8 bare Pythons at once", goal=_at_most(1.3)),
    Line("import.time", "`import hwnuma`, beyond bare Python", "ms", _at_most(15)),
    Line("import.modules", "modules that `import hwnuma` loads, beyond bare Python", "modules", _at_most(25)),
    Line(
        "import.bind time", "`from hwnuma import bind`, all that a worker uses, beyond bare Python", "ms", _at_most(15)
    ),
    Line("import.bind modules", "modules that `from hwnuma import bind` loads, beyond bare Python", "modules"),
    Line("plan.node", "plan 8 ranks on a DGX A100, node: torch's time / ours", goal=_at_least(2)),
    Line("plan.socket", "the same, socket", goal=_at_least(10)),
    Line("plan.exclusive", "the same, exclusive", goal=_at_least(15)),
    Line("plan.core-complex", "the same, core-complex", goal=_at_least(60)),
    Line("load.pyhwloc", "load a DGX-size XML and copy it out: pyhwloc's time / ours", goal=_at_least(2)),
    Line(
        "probe.extra", "a DGX-size XML loaded in a process of its own, beyond loading it in this one", "ms", _at_most(5)
    ),
    Line("growth.machine", "from 256 to 4,096 PUs, 8 to 64 GPUs: `machine()`", goal=_at_most(20)),
    Line("growth.node", "the same: plan in mode node", goal=_at_most(32)),
    Line("growth.socket", "the same: socket", goal=_at_most(32)),
    Line("growth.exclusive", "the same: exclusive", goal=_at_most(32)),
    Line("growth.core-complex", "the same: core-complex", goal=_at_most(32)),
    Line("rails.near", "72 GPUs matched with 72 NICs, near: beside planning the GPUs' CPUs", goal=_at_most(1)),
    Line("rails.balance", "72 GPUs matched with 72 NICs, balance: beside the same", goal=_at_most(1)),
    Line("rails.matrix", "the paths between 160 devices: beside planning the same GPUs' CPUs", goal=_at_most(1)),
    Line("rails.near growth", "with twice the devices: matching, near", goal=_at_most(4)),
    Line("rails.balance growth", "with twice the devices: matching, balance", goal=_at_most(4)),
    Line("rails.matrix growth", "with twice the devices: the paths", goal=_at_most(4)),
    Line("draw.text", "a plan of 64 ranks on 4,096 PUs drawn for the terminal", "ms", _at_most(250)),
    Line("draw.svg", "the same as SVG", "ms", _at_most(250)),
    Line("draw.html", "the same as HTML", "ms", _at_most(250)),
    Line("draw.growth", "drawn for the terminal, from 256 to 4,096 PUs and 8 to 64 GPUs", goal=_at_most(32)),
    Line("cli.plan", "`hwnuma plan --topology dgx --format json` / bare Python", goal=_at_most(4)),
    Line("discovery.none", "discovery, DGX-size sysfs: `hwnuma plan --gpus none --ranks 8` / bare Python"),
    Line("discovery.wanted", "the same with GPUs wanted (`hwnuma plan --gpus nvidia`) / bare Python"),
    Line("discovery.lstopo", "`lstopo-no-graphics --no-io` on the same files / bare Python"),
    Line("discovery.pci", "PCI files that `--gpus none` opens there", "files", _at_most(0)),
    Line("discovery.caches", "first-level caches whose size it reads there", "files", _at_most(0)),
    Line(
        "fleet.bare",
        "`hwnuma fleet` of 10,000 captures of DGX size / gunzip and a bare expat parse of them, in as many processes",
        goal=_at_most(12),
    ),
    Line("fleet.growth", "`hwnuma fleet`, from 1,000 to 10,000 captures", goal=_at_most(12)),
    Line("fleet.memory", "`hwnuma fleet` of 10,000 captures, all its processes at once", "MiB", _at_most(400)),
    Line("verify.empty", "`verify` of a process with a memory policy, a thread", "µs", _at_most(50)),
    Line("verify.heap", "the same with 1 GiB of heap", "µs", _at_most(50)),
    Line("memory.copy", "`hwnuma bench`, copy, all cores of a node: ours / STREAM's", goal=_between(0.85, 1.15)),
    Line("memory.triad", "the same, triad: ours / STREAM's", goal=_between(0.85, 1.15)),
    Line("memory.chase", "the same, latency: ours / that of a chase as lmbench's", goal=_between(0.85, 1.15)),
)

ROWS = tuple(dict.fromkeys(line.row for line in LINES))


def lines_of(row: str) -> tuple[Line, ...]:
    """The lines that a row measures."""
    return tuple(line for line in LINES if line.row == row)
