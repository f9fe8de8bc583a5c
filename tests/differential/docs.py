"""Write docs/explanation/differences.md from the reviewed table and from what the comparison found."""

from __future__ import annotations

from tests.differential.compare import Comparison, Entry, table
from tests.differential.machines import REPOSITORY

PAGE = REPOSITORY / "docs" / "explanation" / "differences.md"

_INTRODUCTION = """\
# Where hwnuma differs from torch.numa.binding

hwnuma's four modes are those of PyTorch's `torch.numa.binding` (torch 2.13 and 2.14), and wherever torch answers, the CPUs are
the same, but for what is listed here. A test compares the two: torch's own, unmodified functions read each machine from a
sysfs tree that is laid out in place of `/sys`, in a mount namespace. For the machines of `fixtures/` the tree is
made from the facts, for other people's hwloc XML files from the raw XML; neither goes through libhwloc or hwnuma. From
outside, torch is given only what it asks CUDA and the kernel for, since the test runs without a GPU and on another machine:
the number of GPUs, their PCI addresses, and the CPUs that the calling thread may use. Each machine is compared with
all of its CPUs and with only some of them allowed: one package, one node, the odd CPUs, half, and an uneven choice; and
with every other GPU visible, in reverse order.

What sysfs cannot say is decided as Linux does: a device that hangs below the whole machine has `numa_node` -1, and a machine
for which no NUMA node is saved has one.
"""

_MADE_MACHINES = """\
## Machines made up from chance

`tests/test_policy_properties.py` makes 26,000 machines (packages, nodes, caches, cores, threads and their numbering, GPUs'
places, restrictions, sparse numbers, nodes of memory alone, L3s over several nodes) and plans each in the four modes: 104,000
cases, none of which violates a property or differs from an oracle that works the modes out anew. A sample of 120
goes as sysfs trees through libhwloc and through torch. There, one more difference occurs, in `socket`: torch names a node's
package by the node's lowest allowed CPU and unites nodes; hwnuma unites all packages that the node touches, with their CPUs
that belong to no node. They differ where a node crosses packages, as in some virtual machines, or where some of a
package's CPUs belong to no node that has memory.
"""

_SEEN_AT_MOST = 4


def page(comparison: Comparison, fixture_names: frozenset[str]) -> str:
    """The whole page."""
    entries = table()
    return "\n".join(
        [
            _INTRODUCTION,
            f"Result: {comparison.summary}.",
            "",
            "## hwnuma places the rank, or refuses it, and torch does not",
            "",
            *_rows([entry for entry in entries if not entry.is_refusal], comparison, fixture_names),
            "",
            "## Neither places the rank",
            "",
            "Here hwnuma's error names the reason; with `--fallback nearest` the rank gets the nearest CPUs that are allowed.",
            "",
            *_rows([entry for entry in entries if entry.is_refusal], comparison, fixture_names),
            "",
            _MADE_MACHINES,
        ]
    )


def _rows(entries: list[Entry], comparison: Comparison, fixture_names: frozenset[str]) -> list[str]:
    rows = ["| what | mode | torch | hwnuma | why | seen on |", "| --- | --- | --- | --- | --- | --- |"]
    for entry in entries:
        torch = "answers" if entry.torch == "answers" else f"`{entry.torch.strip()} …`" if entry.torch else "raises"
        hwnuma = "places the rank" if entry.hwnuma == "places" else f"`{entry.hwnuma}`"
        cells = [
            entry.name,
            ", ".join(entry.modes),
            torch,
            hwnuma,
            entry.reason,
            _seen(entry, comparison, fixture_names),
        ]
        rows.append("| " + " | ".join(" ".join(cell.split()) for cell in cells) + " |")
    return rows


def _seen(entry: Entry, comparison: Comparison, fixture_names: frozenset[str]) -> str:
    """Some of the machines on which it occurs, the repository's own first."""
    machines = {place.split(" | ")[0] for place in comparison.occurrences.get(entry.name, ())}
    ordered = sorted(machines, key=lambda name: (name not in fixture_names, name))
    named = ", ".join(f"`{name}`" for name in ordered[:_SEEN_AT_MOST])
    rest = len(ordered) - _SEEN_AT_MOST
    return named + (f" and {rest} more" if rest > 0 else "")
