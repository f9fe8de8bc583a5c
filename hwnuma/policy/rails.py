"""Which NIC each rank sends through. Pure: same arguments, same answer.

A *rail* is a NIC that ranks send through. What is left out of the machine's NICs, and which of the rest each GPU gets,
is told in docs/explanation/rails.md. It is decided for all GPUs of the host at once, whoever sees them, so that two
jobs agree.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import zip_longest

from hwnuma.errors import OptionError
from hwnuma.model.bitmap import NodeSet
from hwnuma.model.machine import Machine, PciDevice
from hwnuma.model.nic import ETHERNET_KIND, INFINIBAND, Nic, NicMap, Rail, natural_key
from hwnuma.model.options import NicPolicy, NumaOptions
from hwnuma.model.value import Value, replace
from hwnuma.policy.matching import balanced, nearest
from hwnuma.policy.nearness import Nearness, nearness_of_all, tells_bridges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hwnuma.model.gpu import Gpu
    from hwnuma.model.plan import Binding, Plan

AUTO = "auto"

_GpuKey = tuple[int, "str | None"]


class Rails(Value):
    """The NICs that ranks may send through.

    Attributes:
        nics: these, in natural order of their names.
        left_out: the others that could be thought of, each with the reason.
    """

    nics: tuple[Nic, ...]
    left_out: tuple[tuple[Nic, str], ...] = ()


def with_rails(plan: Plan, machine: Machine, host_gpus: Sequence[Gpu]) -> Plan:
    """Give every rank of a plan its NICs, if its options ask for any.

    Args:
        plan: of the ranks.
        machine: with its NICs.
        host_gpus: all GPUs of the host, in an order that all jobs agree on; those of the plan are among them.

    Raises:
        OptionError: the options name a NIC that there is not, or that is down, or ask for more than there are.
    """
    options = plan.options
    if not options.wants_nics:
        return plan
    rails = find_rails(machine, options.nics or AUTO)
    warnings = [*plan.warnings, *_left_out_text(rails)]
    ranks_have_gpus = any(binding.gpus for binding in plan)
    if not rails.nics:
        warnings.append(_no_rail(machine, rails))
    elif not ranks_have_gpus:
        warnings.append("NICs are given to GPUs, and these ranks have none: no rank is given a NIC")
    if not rails.nics or not ranks_have_gpus:
        bindings = tuple(replace(binding, nics=()) for binding in plan)
        return replace(plan, bindings=bindings, warnings=tuple(warnings))
    _check_number(options, rails)
    given, doubts = _assign(machine, host_gpus, rails, options)
    return replace(plan, bindings=_given_out(plan, machine, rails, given), warnings=(*warnings, *doubts))


def find_rails(machine: Machine, wanted: str = AUTO) -> Rails:
    """Find the NICs that ranks may send through.

    Args:
        machine: with its NICs.
        wanted: "auto", or names of OpenFabrics or Slingshot devices or of network interfaces, with commas.

    Raises:
        OptionError: there is no NIC of a name, or it is down.
    """
    if wanted != AUTO:
        return Rails(tuple(sorted(_named(machine, wanted), key=_order)))
    left_out: list[tuple[Nic, str]] = []
    rest: list[Nic] = []
    for nic in sorted(machine.nics, key=_order):
        if nic.kind == ETHERNET_KIND:
            continue  # nobody takes a card without RDMA for a rail
        if reason := _why_not(nic):
            left_out.append((nic, reason))
        else:
            rest.append(nic)
    for exclude in (_of_another_kind, _slower):
        out = exclude(rest)
        left_out += [(nic, out[nic.name]) for nic in rest if nic.name in out]
        rest = [nic for nic in rest if nic.name not in out]
    return Rails(tuple(rest), tuple(left_out))


def _order(nic: Nic) -> tuple[object, ...]:
    return natural_key(nic.name), nic.pci_address


def _why_not(nic: Nic) -> str:
    """Why a NIC carries nothing, whatever the others are like; "" if it can."""
    port = nic.port
    if port.is_down:
        return f"port {port.number} is {port.state}"
    if nic.bond:
        return f"its interface is a member of {nic.bond}"
    if nic.is_virtual_function:
        return "it is a virtual function"
    return nic.access


def _of_another_kind(nics: Sequence[Nic]) -> dict[str, str]:
    """NICs of another network than that with the most bandwidth: storage and management, most often."""
    groups: defaultdict[tuple[object, ...], list[Nic]] = defaultdict(list)
    for nic in nics:
        groups[nic.kind, nic.port.link_layer, nic.vendor_id].append(nic)
    if len(groups) < 2:  # noqa: PLR2004 -- one kind has no other
        return {}
    all_told = all(nic.port.rate for nic in nics)

    def weight(group: list[Nic]) -> tuple[float, int, bool]:
        rates = sum(nic.port.rate for nic in group) if all_told else 0
        return rates, len(group), group[0].port.link_layer == INFINIBAND

    most = max(groups.values(), key=weight)
    what = _network_text(most[0])
    return {
        nic.name: f"it is {_network_text(nic)}, and most of the machine's bandwidth is {what}"
        for group in groups.values()
        if group is not most
        for nic in group
    }


def _network_text(nic: Nic) -> str:
    rate = f" at {nic.port.rate:g} Gb/s" if nic.port.rate else ""
    layer = nic.port.link_layer if nic.port.link_layer not in ("", "Unspecified") else "a network of its own kind"
    return f"{layer} (PCI vendor {nic.vendor_id:04x}){rate}"


def _slower(nics: Sequence[Nic]) -> dict[str, str]:
    fastest = max((nic.port.rate for nic in nics), default=0)
    return {
        nic.name: f"{nic.port.rate:g} Gb/s is slower than the fastest, {fastest:g} Gb/s"
        for nic in nics
        if 0 < nic.port.rate < fastest
    }


def _named(machine: Machine, wanted: str) -> Iterator[Nic]:
    by_name: dict[str, Nic] = {}
    for nic in machine.nics:
        for name in (nic.name, *nic.interfaces):
            by_name.setdefault(name, nic)
    for nic in machine.nics:
        by_name[nic.name] = nic  # where an interface has the name of another card's device
    names = dict.fromkeys(name.strip() for name in wanted.split(",") if name.strip())
    if not names:
        raise OptionError(f"{wanted!r} names no NIC: write auto, none, or names with commas between them")
    found: dict[str, Nic] = {}
    for name in names:
        if name not in by_name:
            there = ", ".join(nic.name for nic in sorted(machine.nics, key=_order)) or "none"
            raise OptionError(f"there is no NIC {name} in {machine.called}: it has {there}")
        nic = by_name[name]
        if nic.port.is_down:
            raise OptionError(f"NIC {name} cannot be sent through: its port {nic.port.number} is {nic.port.state}")
        found[nic.name] = nic
    return iter(found.values())


def _left_out_text(rails: Rails) -> Iterator[str]:
    names: defaultdict[str, list[str]] = defaultdict(list)
    for nic, reason in rails.left_out:
        names[reason].append(nic.name)
    for reason, those in names.items():
        yield f"left out as a rail: {', '.join(those)}: {reason}"


def _no_rail(machine: Machine, rails: Rails) -> str:
    if rails.left_out:
        return "no NIC is given to any rank, since all are left out"
    cards = f"{len(machine.nics)} network devices" if machine.nics else "no network devices"
    return f"no NIC is given to any rank: {machine.called} has {cards}, and none for RDMA (OpenFabrics, Slingshot)"


def _check_number(options: NumaOptions, rails: Rails) -> None:
    if (options.nics_per_rank or 1) > len(rails.nics):
        names = ", ".join(nic.name for nic in rails.nics)
        raise OptionError(
            f"--nics-per-rank {options.nics_per_rank} is more than there are to send through: {len(rails.nics)} "
            f"({names})"
        )


# ---- who gets which ------------------------------------------------------------------------------------------


class _Given(Value):
    """What the GPUs of the host are given.

    Attributes:
        nics: of each GPU the numbers of its NICs, its nearest first.
        near: of each GPU how near each NIC is.
    """

    nics: Mapping[_GpuKey, Sequence[int]]
    near: Mapping[_GpuKey, Sequence[Nearness]]


def _key(gpu: Gpu) -> _GpuKey:
    return gpu.index, gpu.pci_address


def _assign(
    machine: Machine, gpus: Sequence[Gpu], rails: Rails, options: NumaOptions
) -> tuple[_Given, tuple[str, ...]]:
    """Give every GPU of the host its NICs; and what to know of that."""
    devices = [_device_of(machine, gpu) for gpu in gpus]
    columns = [device for nic in rails.nics if (device := machine.pci_device(nic.pci_address)) is not None]
    near = nearness_of_all(devices, columns)
    each = -(-(options.nics_per_rank or 1) // options.gpus_per_rank)
    spread = nearest if options.nic_policy is NicPolicy.NEAR else balanced
    chosen = spread([[int(path) for path in row] for row in near], each)
    sorted_by_path = [sorted(places, key=row.__getitem__) for places, row in zip(chosen, near, strict=True)]
    keys = [_key(gpu) for gpu in gpus]
    given = _Given(dict(zip(keys, sorted_by_path, strict=True)), dict(zip(keys, near, strict=True)))
    doubts = [*_sharing(gpus, rails, chosen, options)]
    if not tells_bridges(machine):
        doubts.append(
            f"{machine.called} tells no PCI bridges, so a GPU and a NIC are NODE or SYS to each other, and no nearer"
        )
    return given, tuple(doubts)


def _device_of(machine: Machine, gpu: Gpu) -> PciDevice:
    """A GPU's device; for one that the topology has not, one that is near its node, if that is stated."""
    device = machine.pci_device(gpu.pci_address or "")
    if device is not None:
        return device
    node = NodeSet() if gpu.numa_node is None else NodeSet([gpu.numa_node])
    return PciDevice(f"GPU {gpu.index}", 0, 0, 0, "", machine.cpuset, node)


def _sharing(gpus: Sequence[Gpu], rails: Rails, chosen: Sequence[Sequence[int]], options: NumaOptions) -> Iterator[str]:
    """Say which NICs several GPUs share while others are idle."""
    users: defaultdict[int, list[str]] = defaultdict(list)
    for gpu, places in zip(gpus, chosen, strict=True):
        for place in places:
            users[place].append(str(gpu.index))
    idle = [nic.name for place, nic in enumerate(rails.nics) if place not in users]
    shared = [
        f"{rails.nics[place].name} (GPUs {', '.join(names)})" for place, names in sorted(users.items()) if names[1:]
    ]
    if idle and shared:
        hint = "" if options.nic_policy is NicPolicy.BALANCE else "; --nic-policy balance spreads them further"
        yield f"NICs are shared while others are idle, being further away: {', '.join(shared)}; idle are " + (
            ", ".join(idle) + hint
        )


def _numbers(machine: Machine) -> dict[str, int]:
    """The place of each NIC among those of its kind, which is how MPI libraries number them."""
    places: defaultdict[str, int] = defaultdict(int)
    numbers = {}
    for nic in sorted(machine.nics, key=_order):
        numbers[nic.name] = places[nic.kind]
        places[nic.kind] += 1
    return numbers


def _given_out(plan: Plan, machine: Machine, rails: Rails, given: _Given) -> tuple[Binding, ...]:
    """The bindings of a plan, each with its NICs and the map of everybody's."""
    numbers = _numbers(machine)
    most = plan.options.nics_per_rank
    own = [tuple(_of_rank(binding, rails, given, fill=most is not None))[:most] for binding in plan]
    by_rank = tuple(numbers[mine[0].nic.name] if mine else -1 for mine in own)
    first = {address: rails.nics[places[0]].pci_address for (_, address), places in given.nics.items() if address}
    everybody = NicMap(by_rank, tuple(first.items()))
    return tuple(replace(binding, nics=nics, nic_map=everybody) for binding, nics in zip(plan, own, strict=True))


def _of_rank(binding: Binding, rails: Rails, given: _Given, *, fill: bool) -> Iterator[Rail]:
    """The NICs of a rank: those of its GPUs in turn, each GPU's nearest first; to fill up, the nearest others."""
    keys = [_key(gpu) for gpu in binding.gpus]
    turns = (place for places in zip_longest(*(given.nics[key] for key in keys)) for place in places)
    paths = [min(paths) for paths in zip(*(given.near[key] for key in keys), strict=True)]
    others = sorted(range(len(paths)), key=paths.__getitem__) if fill else ()
    for place in dict.fromkeys((*turns, *others)):
        if place is not None:  # of a GPU that has fewer
            nic = rails.nics[place]
            yield Rail(nic, nic.port.number, str(paths[place]))
