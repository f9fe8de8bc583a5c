"""A plan as text for people: what ``print(plan)`` prints."""

from __future__ import annotations

from hwnuma.model.characters import printable_text
from hwnuma.model.table import table_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.model.plan import Plan


def plan_as_text(plan: Plan) -> str:
    """The plan as a table, with what it leaves unused, what it shares, and what to know."""
    rows = [
        (
            binding.local_rank,
            ",".join(str(gpu.index) for gpu in binding.gpus) or "-",
            ",".join(gpu.pci_address or "-" for gpu in binding.gpus) or "-",
            binding.nodeset or "-",
            binding.cores or "-",
            binding.cpuset or "-",
            binding.locality if binding.error is None else type(binding.error).__name__,
        )
        for binding in plan.bindings
    ]
    lines = [*table_lines(("rank", "GPU", "PCI address", "node", "cores", "CPUs", "known from"), rows), ""]
    lines += [f"mode {plan.mode} on {plan.source}; allowed CPUs {plan.allowed_cpuset or 'none'}"]
    lines += [f"unused CPUs: {plan.unused_cpuset or 'none'}"]
    lines += [_sharing(plan)]
    lines += [f"rank {b.local_rank} is not placed: {b.error}" for b in plan.bindings if b.error is not None]
    lines += [f"warning: {warning}" for warning in plan.warnings]
    return printable_text(lines)


def _sharing(plan: Plan) -> str:
    shared = [f"ranks {', '.join(map(str, ranks))} share CPUs {cpus}" for ranks, cpus in plan.sharing()]
    return "; ".join(shared) or "no CPU is given to two ranks"
