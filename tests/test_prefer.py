"""``--prefer``: fair parts of the cores that are faster, on a published machine, on made-up ones, and by sysfs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from random import Random

import pytest

from hwnuma import AffinityMode, CpuSet, Gpu, Machine, NumaOptions, OptionError, Plan, Topology, TopologyGpus, plan
from hwnuma.captures.document import document_of
from hwnuma.hwloc.core_speeds import read_core_speeds
from hwnuma.model.bitmap import union
from hwnuma.model.facts import Facts
from hwnuma.model.machine import Cache, Core
from hwnuma.model.value import replace
from hwnuma.policy.ranks import usable_cpus
from tests.conftest import TOPOLOGIES, synthetic
from tests.made_machines import PROPERTY_MACHINES, Made, make
from tests.processes import clean_environment

FAST = "4-5,8-9,18-19,26-27,30-31,34-35,38-39,44-45,54-57,62-63,66-69,72-75,82-83"
_SEED = 43_775


def planned(machine: Machine, mode: str = "exclusive", **options: object) -> Plan:
    """A plan with fast cores preferred."""
    return plan(
        machine, TopologyGpus(machine).gpus(), NumaOptions(AffinityMode(mode), **{"prefer": "fast-cores", **options})
    )


# ---- a published machine -------------------------------------------------------------------------------------


@pytest.fixture
def sst_bf(machine_of: Callable[[str], Machine]) -> Machine:
    """Two sockets of 24 cores, of which eight have a higher base frequency; three GPUs each."""
    return machine_of("xeon_sst_bf")


def test_fast_cores_are_dealt_out_fairly(sst_bf: Machine) -> None:
    """Three, three and two of a socket's eight, and eight cores each: to the CPU, as worked out by hand."""
    made = planned(sst_bf)
    assert [(str(each.cpuset), each.cores_by_preference) for each in made] == [
        ("0-13,18-19", (3, 5)),
        ("14-17,20-27,30-31,34-35", (3, 5)),
        ("28-29,32-33,36-47", (2, 6)),
        ("48-63", (3, 5)),
        ("64-73,76-81", (3, 5)),
        ("74-75,82-95", (2, 6)),
    ]
    assert made.preferred == (CpuSet(FAST),)


def test_ranks_of_a_gpu_share_its_part_fairly(sst_bf: Machine) -> None:
    """The GPU's part is dealt out among its ranks once more."""
    counts = [each.cores_by_preference for each in planned(sst_bf, ranks_per_gpu=2)]
    assert counts[:6] == [(2, 2), (1, 3), (2, 2), (1, 3), (1, 3), (1, 3)]


def test_the_plan_tells(sst_bf: Machine) -> None:
    """A column, a line and JSON keys; with no word of it where it is not asked for."""
    made = planned(sst_bf)
    text = str(made)
    assert text.splitlines()[0].split()[-1] == "preferred"
    assert text.splitlines()[2].endswith("  3 of 8")
    assert f"preferred CPUs: {FAST}: each rank has its fair part of them" in text
    data = made.as_dict()
    assert data["preferred"] == [FAST]
    assert data["bindings"][2]["cores_by_preference"] == [2, 6]
    plain = plan(sst_bf, TopologyGpus(sst_bf).gpus(), "exclusive")
    assert "preferred" not in str(plain)
    assert "preferred" not in plain.as_dict()
    assert "cores_by_preference" not in plain.as_dict()["bindings"][0]


def test_a_rank_that_is_not_placed_has_no_counts(sst_bf: Machine) -> None:
    """Its row has an error, as everywhere."""
    narrow = sst_bf.narrowed(CpuSet("0-47"))
    row = planned(narrow).as_dict()["bindings"][5]
    assert "cores_by_preference" not in row
    assert "error" in row


def test_cpus_that_somebody_names_are_preferred_alike(sst_bf: Machine) -> None:
    """Where only root can ask which cores are faster (Intel's Priority Core Turbo), a list says it."""
    made = planned(sst_bf, prefer="0-11")
    assert [each.cores_by_preference for each in made][:3] == [(2, 6), (2, 6), (2, 6)]
    assert [str(each.cpuset) for each in made][:3] == ["0-3,12-23", "4-7,24-35", "8-11,36-47"]
    assert made == planned(sst_bf, prefer=CpuSet("0-11"))


def test_in_other_modes_it_does_nothing_and_says_so(sst_bf: Machine) -> None:
    """There every rank has all cores of its node or package."""
    for mode in ("node", "socket"):
        made = planned(sst_bf, mode)
        plain = plan(sst_bf, TopologyGpus(sst_bf).gpus(), mode)
        assert made.bindings == plain.bindings
        assert made.warnings[-1].startswith(f"--prefer does nothing in mode {mode}")


def test_on_the_command_line_and_in_the_environment() -> None:
    """As every option."""
    words = [sys.executable, "-m", "hwnuma", "plan", "--topology", str(TOPOLOGIES / "xeon_sst_bf.xml")]
    ways: list[tuple[list[str], dict[str, str]]] = [
        (["--prefer", "fast-cores"], {}),
        ([], {"HWNUMA_PREFER": "fast-cores"}),
    ]
    texts = [
        subprocess.run(
            [*words, "--mode", "exclusive", *more],
            env=clean_environment(**variables),
            text=True,
            check=True,
            capture_output=True,
        ).stdout
        for more, variables in ways
    ]
    assert texts[0] == texts[1]
    assert "3 of 8" in texts[0]


@pytest.mark.parametrize("text", ["fast", "", ",", "-1", "0-99999999"])
def test_what_is_neither_is_refused(text: str) -> None:
    """With what there is."""
    with pytest.raises(OptionError, match="fast-cores"):
        NumaOptions("exclusive", prefer=text)


# ---- core complexes ------------------------------------------------------------------------------------------


def test_core_complexes_with_most_fast_cores_come_first() -> None:
    """They are given whole; among equals, the largest and then the lowest stays first."""
    machine = synthetic("pack:1 numa:1 l3:4 core:4 pu:1")
    machine = replace(machine, cpu_kinds=(CpuSet("0-6,8-11,13-15"), CpuSet("7,12")))
    order = [str(each.cpuset) for each in plan(machine, (), NumaOptions("core-complex", prefer="fast-cores"), ranks=5)]
    assert order == ["4-7", "12-15", "0-3", "8-11", "4-7"]
    most = replace(machine, cpu_kinds=(CpuSet("0-7,12-15"), CpuSet("8-11")))
    (first,) = plan(most, (), NumaOptions("core-complex", prefer="fast-cores"), ranks=1)
    assert (str(first.cpuset), first.cores_by_preference) == ("8-11", (4, 0))


# ---- what holds of every plan --------------------------------------------------------------------------------


def with_kinds(random: Random, made: Made) -> Machine:
    """The machine with up to four kinds of cores; some of its CPUs may be in none."""
    kinds: list[list[int]] = [[] for _ in range(random.randint(2, 4))]
    for core in made.machine.cores:
        place = random.randrange(len(kinds) + (random.random() < 0.1))
        if place < len(kinds):
            kinds[place] += core.cpuset
    return replace(made.machine, cpu_kinds=tuple(CpuSet(kind) for kind in kinds if kind))


def check_fairness(made: Plan, plain: Plan) -> int:
    """Of each node: the same cores as without, nobody's twice, as many each, and fair of every preference on."""
    assert made.is_disjoint
    checked = 0
    by_nodes: dict[str, list[tuple[int, ...]]] = {}
    for binding, before in zip(made, plain, strict=True):
        assert type(binding.error) is type(before.error)
        if binding.error is None:
            assert (binding.cores, binding.nodeset) == (before.cores, before.nodeset)
            assert binding.cores == sum(binding.cores_by_preference or (binding.cores,))
            by_nodes.setdefault(str(binding.nodeset), []).append(binding.cores_by_preference or (binding.cores,))
    assert union(each.cpuset for each in made) == union(each.cpuset for each in plain)
    for counts in by_nodes.values():
        for totals in zip(*map(accumulate, counts), strict=True):
            assert max(totals) - min(totals) <= 1
            checked += 1
    return checked


def test_fair_parts_on_made_up_machines() -> None:
    """Every core is given out once, parts are fair to one, the union is unchanged: no machine violates it."""
    checked = preferred = 0
    for number in range(PROPERTY_MACHINES):
        random = Random(_SEED * 1_000_003 + number)
        made = make(random)
        machine = with_kinds(random, made)
        ranks = None if made.gpus else random.randint(1, 9)
        options = NumaOptions("exclusive", threads_per_core=random.choice((None, None, 1)))
        plain = plan(machine, made.gpus, options, ranks=ranks)
        fair = plan(machine, made.gpus, replace(options, prefer="fast-cores"), ranks=ranks)
        checked += check_fairness(fair, plain)
        preferred += bool(fair.preferred)
    assert preferred > PROPERTY_MACHINES // 2
    assert checked > PROPERTY_MACHINES


@pytest.mark.parametrize("mode", ["exclusive", "core-complex"])
def test_without_fast_cores_nothing_changes_but_a_warning(mode: str) -> None:
    """Cores that are alike, or of which nothing is told: the same bindings, and it says why."""
    for number in range(PROPERTY_MACHINES // 5):
        random = Random(_SEED + number)
        made = make(random)
        alike = replace(made.machine, cpu_kinds=(made.machine.cpuset,) if random.random() < 0.5 else ())
        ranks = None if made.gpus else 2
        plain = plan(alike, made.gpus, mode, ranks=ranks)
        asked = plan(alike, made.gpus, NumaOptions(AffinityMode(mode), prefer="fast-cores"), ranks=ranks)
        assert [(each.cpuset, str(each.error)) for each in asked] == [(each.cpuset, str(each.error)) for each in plain]
        assert asked.preferred == ()
        assert asked.warnings[:-1] == plain.warnings
        assert asked.warnings[-1].endswith("faster than others: none is preferred")


def test_fast_cores_that_cannot_be_given_out_do_not_count(sst_bf: Machine) -> None:
    """Reserved ones, or another job's: of what is left all are alike."""
    options = NumaOptions("exclusive", prefer="fast-cores", reserved_cpus=FAST)
    assert usable_cpus(sst_bf, options).isdisjoint(CpuSet(FAST))
    made = plan(sst_bf, TopologyGpus(sst_bf).gpus(), options)
    assert made.preferred == ()
    assert made.warnings[-1].endswith("none is preferred")


@pytest.mark.parametrize("listed", ["200-300", "0-95"])
def test_a_list_of_no_cpu_or_of_all_tells_no_cores_apart(sst_bf: Machine, listed: str) -> None:
    """The plan is the one without a preference, and it says why."""
    made = planned(sst_bf, prefer=listed)
    assert made.bindings == plan(sst_bf, TopologyGpus(sst_bf).gpus(), "exclusive").bindings
    assert made.preferred == ()
    assert made.warnings[-1] == f"--prefer {listed} tells no cores apart: these are none, or all, that ranks can get"


def test_core_complexes_with_as_many_of_the_fastest_go_by_the_next_kind() -> None:
    """Two of three kinds are preferred, one after the other: the second cache has more of the second."""
    machine = replace(
        synthetic("numa:1 l3:2 core:4 pu:1"), cpu_kinds=(CpuSet("1-3"), CpuSet("5-7"), CpuSet("0,4")),
    )  # fmt: skip
    made = plan(machine, [Gpu(0, numa_node=0)], NumaOptions("core-complex", prefer="fast-cores"))
    assert [(str(each.cpuset), each.cores_by_preference) for each in made] == [("4-7", (1, 3, 0))]


def test_the_fastest_kind_by_libhwloc_comes_before_the_firmwares_word() -> None:
    """Where both tell, libhwloc's kinds count."""
    machine = synthetic("numa:1 core:4 pu:1")
    slow_first = (CpuSet("0-1"), CpuSet("2-3"))
    both = replace(machine, cpu_kinds=slow_first, core_speeds=slow_first[::-1])
    options = NumaOptions("exclusive", prefer="fast-cores")
    assert plan(both, (), options, ranks=2).preferred == (CpuSet("2-3"),)
    assert plan(both.with_core_speeds(slow_first[::-1]), (), options, ranks=2).preferred == (CpuSet("2-3"),)
    assert plan(replace(both, cpu_kinds=()), (), options, ranks=2).preferred == (CpuSet("0-1"),)


# ---- the firmware's word -------------------------------------------------------------------------------------


def cppc(root: Path, **measures: dict[int, str]) -> str:
    """A tree with acpi_cppc files of CPUs."""
    for measure, values in measures.items():
        for cpu, value in values.items():
            folder = root / f"sys/devices/system/cpu/cpu{cpu}/acpi_cppc"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / measure).write_text(f"{value}\n")
    return str(root)


def test_speeds_by_cppc(tmp_path: Path) -> None:
    """By the highest performance; where that is the same for all, by the nominal one."""
    cpus = CpuSet("0-3")
    root = cppc(tmp_path, highest_perf={0: "39", 1: "46", 2: "46", 3: "39"}, nominal_perf=dict.fromkeys(range(4), "20"))
    assert read_core_speeds(cpus, root) == (CpuSet("0,3"), CpuSet("1-2"))
    cppc(tmp_path, highest_perf=dict.fromkeys(range(4), "46"), nominal_perf={0: "100", 1: "20", 2: "20", 3: "20"})
    assert read_core_speeds(cpus, root) == (CpuSet("1-3"), CpuSet("0"))
    assert read_core_speeds(CpuSet("1-3"), root) == ()


@pytest.mark.parametrize("value", ["", "fast", "-1", "9" * 30])
def test_speeds_that_some_cpus_do_not_tell(tmp_path: Path, value: str) -> None:
    """Nothing can be said of those, so nothing is."""
    root = cppc(tmp_path, highest_perf={0: "39", 1: value})
    assert read_core_speeds(CpuSet("0-1"), root) == ()
    assert read_core_speeds(CpuSet("0,7"), root) == ()


def test_this_machine_is_asked_only_where_it_is_asked_for() -> None:
    """A live plan with the option says something of it in any case; one without imports nothing for it."""
    code = (
        "import os, sys, hwnuma\n"
        "made = hwnuma.plan_here(hwnuma.NumaOptions('exclusive', prefer=sys.argv[1] or None), gpus='none', ranks=1)\n"
        "print('hwnuma.hwloc.core_speeds' in sys.modules, bool(made.preferred or made.warnings))\n"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", code, text], env=clean_environment(), text=True, check=True, capture_output=True
        ).stdout.split()
        for text in ("fast-cores", "")
    ]
    assert answers[0][1] == "True"
    assert answers[1][0] == "False"


def test_a_capture_plans_elsewhere_with_the_firmwares_word() -> None:
    """What acpi_cppc told where the machine was captured counts where its file is loaded."""
    speeds = (CpuSet("0,3"), CpuSet("1-2"))
    with Topology.from_synthetic("numa:1 core:4 pu:1") as topology:
        document, _ = document_of(topology.export_xml(), Facts(core_speeds=speeds), anonymous=False)
    with Topology.from_xml_buffer(document.encode()) as topology:
        machine = topology.machine()
    assert machine.core_speeds == speeds
    assert plan(machine, (), NumaOptions("exclusive", prefer="fast-cores"), ranks=2).preferred == (CpuSet("1-2"),)


def test_core_complexes_with_as_many_preferred_cores_stay_in_their_order() -> None:
    """The larger one first, by CPUs: how many others there are in it does not count."""
    cores = [CpuSet("0-1"), CpuSet("2-3"), CpuSet("4"), CpuSet("5"), CpuSet("6")]
    machine = replace(
        synthetic("numa:1 core:7 pu:1"),
        cores=tuple(Core(number, cpuset) for number, cpuset in enumerate(cores)),
        last_level_caches=(Cache(3, CpuSet("0-3")), Cache(3, CpuSet("4-6"))),
    )
    made = plan(machine, [Gpu(0, numa_node=0)], NumaOptions("core-complex", prefer="0,4"))
    assert [str(each.cpuset) for each in made] == ["0-3"]
