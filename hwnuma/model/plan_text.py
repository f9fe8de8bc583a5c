"""A plan as text for people: what ``print(plan)`` prints."""

from __future__ import annotations

from hwnuma.model.bitmap import Bitmap
from hwnuma.model.characters import printable_text
from hwnuma.model.table import table_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.model.plan import Binding, Plan


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
            *_preference_text(plan, binding),
            *_rails_text(binding),
        )
        for binding in plan.bindings
    ]
    headers = ["rank", "GPU", "PCI address", "node", "cores", "CPUs", "known from"]
    headers += ["preferred"] if plan.preferred else []
    if any(binding.nics is not None for binding in plan.bindings):
        headers += ["NICs", "path"]
    lines = [*table_lines(headers, rows), ""]
    lines += [f"mode {plan.mode} on {plan.source}; allowed CPUs {plan.allowed_cpuset or 'none'}"]
    lines += [f"unused CPUs: {plan.unused_cpuset or 'none'}"]
    lines += [_sharing(plan)]
    lines += _preferred(plan)
    lines += _not_placed(plan)
    lines += [f"warning: {warning}" for warning in plan.warnings]
    return printable_text(lines)


def _preference_text(plan: Plan, binding: Binding) -> tuple[str, ...]:
    """How many of a rank's cores are preferred, most and next, of all that it gets; nothing if none are."""
    if not plan.preferred:
        return ()
    counts = binding.cores_by_preference
    return ("-" if counts is None else f"{'+'.join(map(str, counts[:-1]))} of {sum(counts)}",)


def _preferred(plan: Plan) -> list[str]:
    if not plan.preferred:
        return []
    named = ", then ".join(str(cpus) for cpus in plan.preferred)
    how = "each rank has its fair part of them" if plan.mode.value == "exclusive" else "core complexes with most first"
    return [f"preferred CPUs: {named}: {how}"]


def _rails_text(binding: Binding) -> tuple[str, ...]:
    """The NICs of a rank by name and port, and how near each is; nothing if none was asked for."""
    if binding.nics is None:
        return ()
    names = ",".join(f"{rail.nic.name}:{rail.port}" for rail in binding.nics)
    return names or "-", ",".join(rail.path for rail in binding.nics) or "-"


def _sharing(plan: Plan) -> str:
    shared = [f"ranks {', '.join(map(str, ranks))} share CPUs {cpus}" for ranks, cpus in plan.sharing()]
    return "; ".join(shared) or "no CPU is given to two ranks"


def _not_placed(plan: Plan) -> list[str]:
    """Why ranks are not placed: one line for all of which the same is true, whichever their GPUs."""
    of_reasons: dict[str, list[Binding]] = {}
    for binding in plan.bindings:
        if binding.error is not None:
            of_reasons.setdefault(_reason_of_each(binding), []).append(binding)
    return [
        f"ranks {Bitmap(binding.local_rank for binding in bindings)} are not placed: {reason}"
        if len(bindings) > 1
        else f"rank {bindings[0].local_rank} is not placed: {bindings[0].error}"
        for reason, bindings in of_reasons.items()
    ]


def _reason_of_each(binding: Binding) -> str:
    """The sentence of a rank's error, without what is this rank's alone: the table above has its GPU and address."""
    reason = str(binding.error).replace(f"rank {binding.local_rank} ", "each ")
    for gpu in binding.gpus:
        reason = reason.replace(f"{gpu} ", "the GPU of each ")
        if gpu.pci_address is not None:
            reason = reason.replace(gpu.pci_address, "ADDRESS")
    return reason
