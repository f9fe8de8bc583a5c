"""What holds of every plan, on machines made up from chance.

The answers are checked twice: against an oracle that works SEMANTICS out anew with plain sets, one GPU at a time, and
against properties that need no oracle. HWNUMA_PROPERTY_MACHINES in the environment makes the run longer or shorter.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwnuma.errors import NoAllowedCpusError, NotEnoughCoresError, UnknownLocalityError
from hwnuma.model.bitmap import CpuSet, union
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Machine, NumaNode
from hwnuma.model.options import AffinityMode, NumaOptions
from hwnuma.model.plan import Binding, Plan
from hwnuma.policy.planning import make_plan
from tests.made_machines import PROPERTY_MACHINES, Made, make

_SEED = 20_240_229
_MODES = tuple(AffinityMode)


# ---- the oracle: SEMANTICS once more, with plain sets ------------------------------------------------------------


def _home(machine: Machine, gpu: Gpu) -> NumaNode | None:
    """The one node that a GPU is on without a doubt; None where there is a doubt."""
    nodes = {node.os_index: node for node in machine.numa_nodes if node.cpuset}
    if gpu.numa_node is not None:
        return nodes[gpu.numa_node]
    device = machine.pci_device(gpu.pci_address or "")
    assert device is not None
    touched = [node for node in nodes.values() if set(node.cpuset) & set(device.near_cpuset)]
    if not device.is_near_root and len(touched) == 1:
        return touched[0]
    return next(iter(nodes.values())) if len(nodes) == 1 and not device.near_cpuset else None


def _expected(machine: Machine, mode: AffinityMode, home: NumaNode, place: int, sharers: int) -> set[int] | None:
    """What SEMANTICS gives the GPU that is number `place` of the `sharers` on its node; None for an error."""
    allowed = set(machine.allowed_cpuset)
    own = set(home.cpuset) & allowed
    if mode is AffinityMode.SOCKET:
        packages = [set(package.cpuset) for package in machine.packages if set(package.cpuset) & set(home.cpuset)]
        return (set().union(home.cpuset, *packages) & allowed) or None
    if not own:
        return None
    if mode is AffinityMode.NODE:
        return own
    if mode is AffinityMode.EXCLUSIVE:
        cores = sorted((set(core.cpuset) for core in machine.cores if set(core.cpuset) & own), key=min)
        each, odd = divmod(len(cores), sharers)
        if each < 1:
            return None
        start = place * each + min(place, odd)
        return set().union(*cores[start : start + each + (place < odd)]) & own
    groups: dict[int, set[int]] = {}
    for cpu in own:
        over = [min(cache.cpuset) for cache in machine.last_level_caches if cpu in cache.cpuset]
        groups.setdefault(over[0] if over else -1, set()).add(cpu)
    if -1 in groups:
        bare = groups.pop(-1)
        groups[min(bare)] = bare
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return ordered[place % len(ordered)][1]


def _check_against_oracle(made: Made, plan: Plan) -> None:
    """Where all GPUs' nodes are beyond doubt, every rank has exactly the expected CPUs, or an error where none are."""
    homes = [_home(made.machine, gpu) for gpu in made.gpus]
    # A GPU of which something is in doubt can be dealt out to any node, so the shares of a node are known only if none is.
    in_doubt = any(home is None for home in homes)
    numbers = [home.os_index if home else None for home in homes]
    for place, (home, binding) in enumerate(zip(homes, plan, strict=True)):
        if home is None or (in_doubt and plan.mode in (AffinityMode.EXCLUSIVE, AffinityMode.CORE_COMPLEX)):
            continue
        before, sharers = numbers[:place].count(home.os_index), numbers.count(home.os_index)
        expected = _expected(made.machine, plan.mode, home, before, sharers)
        found = set(binding.cpuset) if binding.error is None else None
        assert found == expected, (plan.mode, place, made)


# ---- properties ----------------------------------------------------------------------------------------------


def _check_soundness(machine: Machine, plan: Plan) -> None:
    """A rank has CPUs, all of them allowed, or an error; the plan knows what it shares and leaves."""
    allowed = machine.allowed_cpuset
    used = union(binding.cpuset for binding in plan)
    for binding in plan:
        assert (binding.error is None) == bool(binding.cpuset)
        assert binding.cpuset <= allowed
        assert binding.cores == sum(1 for core in machine.cores if core.cpuset & binding.cpuset)
        if binding.error is not None:
            assert isinstance(binding.error, (NoAllowedCpusError, NotEnoughCoresError, UnknownLocalityError))
            assert not isinstance(binding.error, NotEnoughCoresError) or plan.mode is AffinityMode.EXCLUSIVE
    assert plan.unused_cpuset == allowed - used
    assert plan.is_disjoint == (next(plan.overlaps(), None) is None)


def _check_exclusive(machine: Machine, plan: Plan) -> None:
    """Whole cores, nobody's twice, all of a node's cores given out, as evenly as whole cores allow."""
    assert plan.is_disjoint
    by_node: dict[str, list[Binding]] = {}
    for binding in plan:
        if binding.error is None:
            by_node.setdefault(str(binding.nodeset), []).append(binding)
    for name, bindings in by_node.items():
        node = machine.numa_node(int(name))
        assert node is not None
        assert union(binding.cpuset for binding in bindings) == node.cpuset & machine.allowed_cpuset
        sizes = [binding.cores for binding in bindings]
        assert max(sizes) - min(sizes) <= 1
        assert sizes == sorted(sizes, reverse=True)
        assert sum(sizes) == len(list(machine.cores_within(node.cpuset & machine.allowed_cpuset)))


def _check_core_complex(machine: Machine, plan: Plan) -> None:
    """All under one cache, or all under none, and all of one node."""
    for binding in plan:
        if binding.error is None:
            assert len(binding.nodeset) == 1
            caches = [cache for cache in machine.last_level_caches if cache.cpuset & binding.cpuset]
            assert len(caches) <= 1
            assert all(binding.cpuset <= cache.cpuset for cache in caches)


def _check_modes_nest(plans: dict[AffinityMode, Plan]) -> None:
    """Both exclusive and core-complex lie within node, and node within socket; what node places, socket places."""
    for rank, node in enumerate(plans[AffinityMode.NODE]):
        if node.error is None:
            assert plans[AffinityMode.SOCKET][rank].error is None
            assert plans[AffinityMode.CORE_COMPLEX][rank].error is None
            assert node.cpuset <= plans[AffinityMode.SOCKET][rank].cpuset
        assert plans[AffinityMode.CORE_COMPLEX][rank].cpuset <= node.cpuset
        assert plans[AffinityMode.EXCLUSIVE][rank].cpuset <= node.cpuset


def _check_restriction(made: Made, plans: dict[AffinityMode, Plan], random: Random) -> None:
    """Whatever is taken away, a rank that loses nothing keeps its answer."""
    machine = made.machine
    kept = CpuSet(cpu for cpu in machine.allowed_cpuset if random.random() < 0.6)
    for node in random.sample(machine.cpu_nodes, random.randint(0, len(machine.cpu_nodes))):
        kept |= node.cpuset & machine.allowed_cpuset
    lost = machine.allowed_cpuset - kept
    for mode, before in plans.items():
        after = make_plan(machine.narrowed(kept), made.gpus, NumaOptions(mode))
        # A GPU that is dealt out can come to a node where it was not, and then shares that.
        is_dealt = any("spread" in binding.locality for binding in before)
        for old, new in zip(before, after, strict=True):
            if old.error is not None:
                assert new.error is not None or is_dealt
            elif mode in (AffinityMode.NODE, AffinityMode.SOCKET):
                if old.cpuset.isdisjoint(lost):
                    assert new.cpuset == old.cpuset
                elif old.cpuset & kept and "spread" not in old.locality:
                    assert new.cpuset == old.cpuset & kept
            elif not is_dealt and all(
                node.cpuset.isdisjoint(lost) for node in machine.cpu_nodes if node.os_index in old.nodeset
            ):
                assert new.cpuset == old.cpuset


def _check_permutation(made: Made, plans: dict[AffinityMode, Plan], random: Random) -> None:
    """The order of PCI devices, of GPUs' numbers and of ranks changes nothing but who gets which of equal parts."""
    devices = list(made.machine.pci_devices)
    random.shuffle(devices)
    machine = replace(made.machine, pci_devices=tuple(devices))
    order = list(range(len(made.gpus)))
    random.shuffle(order)
    gpus = [made.gpus[place] for place in order]
    for mode, before in plans.items():
        assert make_plan(machine, made.gpus, NumaOptions(mode)).bindings == before.bindings or before.errors
        after = make_plan(machine, gpus, NumaOptions(mode))
        if any("spread" in binding.locality for binding in before):
            continue
        if mode in (AffinityMode.NODE, AffinityMode.SOCKET):
            assert [after[new].cpuset for new in range(len(order))] == [before[old].cpuset for old in order]
        else:
            assert Counter(binding.cpuset for binding in after) == Counter(binding.cpuset for binding in before)


def _check_two_jobs(made: Made, random: Random) -> None:
    """With divide_among="all", two jobs that see different GPUs never share a core, in whatever order they see them."""
    ranks_per_gpu = random.choice((1, 1, 2))
    options = NumaOptions("exclusive", divide_among="all", ranks_per_gpu=ranks_per_gpu)
    whole = make_plan(made.machine, made.gpus, options, all_gpus=made.gpus)
    gpus = list(made.gpus)
    random.shuffle(gpus)
    cut = random.randint(0, len(gpus))
    for job in (gpus[:cut], gpus[cut:]):
        if job:
            plan = make_plan(made.machine, job, options, all_gpus=made.gpus)
            for binding in plan:
                assert binding.gpu is not None
                rank = binding.gpu.index * ranks_per_gpu + binding.local_rank % ranks_per_gpu
                assert binding.cpuset == whole[rank].cpuset


def _check_options(made: Made, random: Random) -> None:
    """Threads a core, reserved CPUs, the nearest nodes and idle nodes keep to what they promise."""
    machine = made.machine
    mode = random.choice(_MODES)
    reserved = CpuSet(cpu for cpu in machine.cpuset if random.random() < 0.1)
    count = random.randint(1, 2)
    plan = make_plan(machine, made.gpus, NumaOptions(mode, threads_per_core=count, reserved_cpus=reserved))
    for binding in plan:
        assert binding.cpuset.isdisjoint(reserved)
        assert all(len(core.cpuset) <= count for core in machine.cores_within(binding.cpuset))
    # On request, no CPU that is allowed on some node means no error of this kind.
    nearest = make_plan(machine, made.gpus, NumaOptions(mode, no_allowed_cpus="nearest", unknown_locality="node0"))
    if any(node.cpuset & machine.allowed_cpuset for node in machine.cpu_nodes):
        assert all(isinstance(error, NotEnoughCoresError) for error in nearest.errors)
    idle = make_plan(machine, made.gpus, NumaOptions("exclusive", use_idle_nodes=True))
    assert idle.is_disjoint
    plain = make_plan(machine, made.gpus, NumaOptions("exclusive"))
    for more, less in zip(idle, plain, strict=True):
        assert less.cpuset <= more.cpuset


def _check_spread(made: Made, random: Random) -> None:
    """Ranks without GPUs: all placed, as long as there are as many cores as ranks; exclusive gives out every core."""
    machine = made.machine
    owned = union(node.cpuset for node in machine.cpu_nodes) & machine.allowed_cpuset
    cores = len(list(machine.cores_within(owned)))
    ranks = random.randint(1, max(1, cores))
    for mode in _MODES:
        plan = make_plan(machine, (), NumaOptions(mode), ranks=ranks)
        _check_soundness(machine, plan)
        if owned:
            assert plan.errors == ()
        else:
            assert all(isinstance(error, NoAllowedCpusError) for error in plan.errors)
            assert len(plan.errors) == ranks
        if mode is AffinityMode.EXCLUSIVE:
            assert plan.is_disjoint


def _check(made: Made, random: Random, *, more: bool) -> int:
    """Check all properties of a machine; the number of (machine, mode) cases."""
    if not made.gpus:
        _check_spread(made, random)
        return len(_MODES)
    plans = {mode: make_plan(made.machine, made.gpus, NumaOptions(mode)) for mode in _MODES}
    for plan in plans.values():
        _check_soundness(made.machine, plan)
        _check_against_oracle(made, plan)
    _check_exclusive(made.machine, plans[AffinityMode.EXCLUSIVE])
    _check_core_complex(made.machine, plans[AffinityMode.CORE_COMPLEX])
    _check_modes_nest(plans)
    if more:
        _check_restriction(made, plans, random)
        _check_permutation(made, plans, random)
        _check_two_jobs(made, random)
        _check_options(made, random)
        _check_spread(made, random)
    return len(_MODES)


def test_properties_hold_on_machines_made_up_from_chance() -> None:
    """None of 400 generated (machine, mode) cases violates a property or differs from the oracle; in CI, of 104,000."""
    cases = placed = 0
    for number in range(PROPERTY_MACHINES):
        random = Random(_SEED * 1_000_003 + number)
        made = make(random)
        try:
            cases += _check(made, random, more=number % 8 == 0)
        except AssertionError as error:
            raise AssertionError(f"machine {number} of seed {_SEED}: {error}") from error
        placed += bool(made.gpus)
    print(f"\n{cases} (machine, mode) cases on {PROPERTY_MACHINES} machines, {placed} of them with GPUs; none violated")
    assert cases == PROPERTY_MACHINES * len(_MODES)
    assert placed > PROPERTY_MACHINES // 2


@pytest.mark.slow  # the same as on those from chance
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.randoms(use_true_random=False))
def test_properties_hold_where_hypothesis_looks(random: Random) -> None:
    """The same, on machines that hypothesis makes up: it shrinks what it finds to the smallest machine."""
    _check(make(random), random, more=True)
