"""Facts of a capture: they come back from JSON and info attributes as they were, and nothing malformed passes."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from hwnuma import CpuSet, Gpu, NodeSet, OptionError
from hwnuma.model.facts import Facts, KernelSettings, NvLink, Versions, facts_of_dict, facts_of_infos
from hwnuma.model.gpu import MigInstance
from hwnuma.processes.kernel_settings import read_kernel_settings

FULL = Facts(
    gpus=(
        Gpu(0, "0000:07:00.0", "GPU-1", "an é and an \x1b", cpu_affinity=CpuSet("0-3"), memory_affinity=NodeSet([0])),
        Gpu(1, "10000:08:00.0", "MIG-2", device_index=1, cpu_affinity=CpuSet(), mig=MigInstance("GPU-2", 1, 0)),
        Gpu(2, "10000:08:00.0", device_index=1, mig=MigInstance()),
    ),
    amd_gpus=tuple(Gpu(index, "0000:0c:00.0", f"GPU-{index:016x}", compute_partition="DPX") for index in range(2)),
    amd_doubt="they are known",
    nvlinks=(NvLink("0000:07:00.0", "10000:08:00.0", 18),),
    serials=(("0000:07:00.0", "165"),),
    variables=(("CUDA_VISIBLE_DEVICES", '0,"1",\udcff\n'), ("CUDA_DEVICE_ORDER", "")),
    nccl_nodes=(("0000:07:00.0", 3),),
    affinity=CpuSet("0-3,8"),
    memory_nodes=NodeSet("0-1"),
    core_speeds=(CpuSet("0-1"), CpuSet("2-3")),
    device_nodes=(("0009:01:00.0", 4),),
    kernel_settings=KernelSettings(1, 0, "always", "madvise", "managed_irq,2-3", "", CpuSet("2-3")),
    versions=Versions("0.1.0", "2.11", "6.1.0", "570.86.15"),
    host="node001",
)


@pytest.mark.parametrize("facts", [FULL, Facts(), Facts(nvml_error="no driver", anonymous=True)])
def test_facts_come_back(facts: Facts) -> None:
    """What is written as JSON or as info attributes is read as the same facts; the attributes are printable ASCII."""
    assert facts_of_dict(json.loads(json.dumps(facts.as_dict()))) == facts
    infos = facts.infos()
    assert all(value.isascii() and value.isprintable() for _, value in infos)
    assert facts_of_infos(infos) == facts


def test_other_info_attributes_are_no_facts() -> None:
    """Without the schema there are no facts, and what others or a later hwnuma wrote beside them counts for nothing."""
    others = [("HostName", "x"), ("HwnumaRanks", "0-3"), ("lstopoLegend", "a"), ("HwnumaLater", "{")]
    assert facts_of_infos([]) is None
    assert facts_of_infos(others) is None
    assert facts_of_infos([*others, *FULL.infos()]) == FULL


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "they are of schema 2, and this hwnuma knows up to 1: update it"),
        ({"schema": True}, "their schema is True"),
        ({"schema": "1"}, "their schema is '1'"),
        ({"host": 3}, "host is 3, and not a text of at most 256 characters"),
        ({"host": "x" * 257}, "and not a text of at most 256"),
        ({"host": "a\0b"}, "and not a text"),
        ({"affinity": "3-1"}, "affinity: the range '3-1'"),
        ({"affinity": "0-99999999"}, "affinity: the range"),
        ({"memory_nodes": [0]}, "memory_nodes is [0], and not a text"),
        ({"gpus": [{}]}, "gpus[0] has no index"),
        ({"gpus": [{"index": 1}]}, "gpus[0] has the index 1: GPUs stand in the order of their indexes"),
        ({"gpus": [{"index": -1}]}, "gpus[0].index is -1, and not a whole number"),
        ({"gpus": [{"index": 0, "pci_address": "nowhere"}]}, "gpus[0].pci_address: 'nowhere' is no PCI address"),
        ({"gpus": [{"index": 0, "mig": {"gpu_instance": 1.5}}]}, "gpus[0].mig.gpu_instance is 1.5"),
        ({"gpus": [{"index": 0, "uuid": "U" * 257}]}, "gpus[0].uuid is"),
        ({"gpus": [{"index": each} for each in range(1025)]}, "and not a list of at most 1024"),
        ({"gpus": {"0": {}}}, "gpus is"),
        ({"amd_gpus": [{"index": 1}]}, "amd_gpus[0] has the index 1: GPUs stand in the order of their indexes"),
        ({"amd_gpus": [{"index": 0, "compute_partition": 3}]}, "amd_gpus[0].compute_partition is 3"),
        ({"amd_doubt": None}, "amd_doubt is None"),
        ({"variables": {"a=b": "1"}}, "variables has 'a=b', which is no variable's name"),
        ({"variables": {"A": 1}}, "variables.A is 1"),
        ({"variables": {f"A{each}": "" for each in range(257)}}, "an object of at most 256 members"),
        ({"nccl_nodes": {"0000:07:00.0": -1}}, "nccl_nodes.0000:07:00.0 is -1"),
        ({"nccl_nodes": {"07": 1}}, "nccl_nodes: '07' is no PCI address"),
        ({"nvlinks": [["0000:07:00.0", 1]]}, "nvlinks has a row that is not two PCI addresses and a number"),
        ({"device_nodes": {"0009:01:00.0": -1}}, "device_nodes.0009:01:00.0 is -1"),
        ({"core_speeds": ["0-1", 2]}, "core_speeds is 2, and not a text"),
        ({"kernel_settings": {"numa_balancing": "on"}}, "kernel_settings.numa_balancing is 'on'"),
        ({"kernel_settings": {"isolated_cpuset": "x"}}, "kernel_settings.isolated_cpuset: 'x' is no CPU list"),
        ({"anonymous": 1}, "anonymous is 1, and not true or false"),
        ({"versions": []}, "versions is [], and not an object"),
    ],
)
def test_malformed_facts_are_refused(change: dict[str, Any], said: str) -> None:
    """Whatever is wrong is named by its key in one line, and what it is."""
    with pytest.raises(OptionError) as caught:
        facts_of_dict({**FULL.as_dict(), **change})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, "9" * 5000, "nul"])
def test_what_is_no_json_is_refused(text: str) -> None:
    """An info attribute that is no JSON, or a trap for its parser, is an error that names it."""
    with pytest.raises(OptionError, match="HwnumaGpu is no JSON"):
        facts_of_infos([*FULL.infos(), ("HwnumaGpu", text)])


def _places(data: Any) -> list[tuple[Any, Any]]:
    """Every container of some plain values with each of its keys."""
    keys = list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    return [place for key in keys for place in ((data, key), *_places(data[key]))]


@pytest.mark.slow  # three thousand of them
def test_mutated_facts_are_read_or_refused() -> None:
    """Facts with anything in the place of anything are facts all the same, or an OptionError: nothing else comes."""
    dice = random.Random(14)
    odd: list[Any] = [None, True, -1, 1 << 70, 1.5, "", "0-3", "\udc80", "\0", "9" * 400, [], {}, [[]], {"index": 0}]
    outcomes = {"read": 0, "refused": 0}
    for _ in range(3000):
        data = copy.deepcopy(FULL.as_dict())
        container, key = dice.choice(_places(data))
        container[key] = dice.choice(odd)
        try:
            assert facts_of_dict(facts_of_dict(data).as_dict()) == facts_of_dict(data)
            outcomes["read"] += 1
        except OptionError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 300


def test_kernel_settings_are_read(tmp_path: Path) -> None:
    """Each setting comes from its file, and the chosen word from between its brackets."""
    for name, text in {
        "proc/sys/kernel/numa_balancing": "1\n",
        "proc/sys/vm/zone_reclaim_mode": "0\n",
        "proc/cmdline": 'root=/dev/sda isolcpus=1 quiet isolcpus="domain,managed_irq,2-3" nohz_full=2-3\n',
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "sys/kernel/mm/transparent_hugepage/defrag": "always defer [defer+madvise] madvise never\n",
        "sys/devices/system/cpu/isolated": "2-3\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read_kernel_settings(tmp_path) == KernelSettings(
        1, 0, "madvise", "defer+madvise", "domain,managed_irq,2-3", "2-3", CpuSet("2-3")
    )


def test_kernel_settings_that_are_not_there_are_none(tmp_path: Path) -> None:
    """What is missing, a folder or nonsense is None and no error; a command line without a word says "" for it."""
    assert read_kernel_settings(tmp_path) == KernelSettings()
    (tmp_path / "proc/sys/kernel/numa_balancing").mkdir(parents=True)
    (tmp_path / "proc/sys/vm").mkdir()
    (tmp_path / "proc/sys/vm/zone_reclaim_mode").write_bytes(b"\xff\n")
    (tmp_path / "proc/cmdline").write_text("quiet\n")
    (tmp_path / "sys/devices/system/cpu").mkdir(parents=True)
    (tmp_path / "sys/devices/system/cpu/isolated").write_text("none\n")
    assert read_kernel_settings(tmp_path) == KernelSettings(isolcpus="", nohz_full="")


def test_kernel_settings_of_this_system() -> None:
    """This system's own settings are what its files say."""
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    settings = read_kernel_settings()
    assert (settings.huge_pages is not None) == path.exists()
    if settings.huge_pages is not None:
        assert f"[{settings.huge_pages}]" in path.read_text()
