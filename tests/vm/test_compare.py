"""On a kernel with four NUMA nodes: a job compared in several modes, and copies to GPUs that are near and far."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import MEMORY_MACHINE, Guest

pytestmark = pytest.mark.vm

memory_machine = pytest.mark.parametrize("guest", [MEMORY_MACHINE], indirect=True, scope="session")

_TOUCHED = 2 * (32 << 20)
# A Python's own memory, of two ranks, that may be anywhere where nothing has bound it from its start.
_OWN = 2 * (12 << 20)


@memory_machine
def test_remote_memory_of_a_job_that_binds_late_is_told(guest: Guest) -> None:
    """What both ranks had touched before is remote, as much as they count themselves; bound by hwnuma, nothing is."""
    late = guest.section("compare")["late"]
    assert _TOUCHED <= late["none"]["told"] <= _TOUCHED + _OWN
    assert abs(late["none"]["told"] - late["none"]["counted"]) < 4 << 20
    assert late["node"]["told"] == late["node"]["counted"] == 0


@memory_machine
def test_remote_memory_of_a_job_that_binds_early_is_told(guest: Guest) -> None:
    """Nothing that it touched is remote, in either mode."""
    early = guest.section("compare")["early"]
    assert early["none"]["told"] <= _OWN
    assert early["node"]["told"] == early["node"]["counted"] == 0


@memory_machine
def test_threads_outside_of_a_job_are_told(guest: Guest) -> None:
    """Unbound, both ranks' threads begin anywhere; bound, none of them is ever outside."""
    told = guest.section("compare")
    for variant in ("late", "early"):
        assert {mode: row["processes"] for mode, row in told[variant].items()} == {"none": 2, "node": 2}
        assert told[variant]["node"]["outside"] == 0
    assert told["late"]["none"]["outside"] == 2


def _median(gpu: dict[str, Any], node: int | None, direction: str, *, at_once: bool = False) -> float:
    wanted = (node, direction, at_once)
    (copy,) = [c for c in gpu["copies"] if (c["memory_node"], c["direction"], c["at_once"]) == wanted]
    median: float = copy["bytes_per_second"]["median"]
    return median


@memory_machine
def test_copies_are_faster_from_nearer_memory(guest: Guest) -> None:
    """For each made-up GPU, by the kernel's distances: its node, then its package's other one, then the far ones."""
    told = guest.section("copies")
    assert told["notes"] == []
    for node, gpu in enumerate(told["gpus"]):
        partner, far = node ^ 1, 2 if node < 2 else 0
        assert (gpu["near_nodes"], gpu["far_node"], gpu["error"]) == (str(node), far, "")
        for direction in ("host_to_device", "device_to_host"):
            assert _median(gpu, node, direction) > 1.5 * _median(gpu, far, direction)
            assert _median(gpu, partner, direction) > 1.3 * _median(gpu, far, direction)
            assert _median(gpu, node, direction, at_once=True) > 1.5 * _median(gpu, far, direction, at_once=True)


@memory_machine
def test_the_verdict_on_copies_says_what_binding_gives(guest: Guest) -> None:
    """Near and far in GB/s and words, for each GPU; and all contexts were made in one process of their own."""
    told = guest.section("copies")
    assert told["processes"] == 1
    for number, sentence in enumerate(told["verdicts"]):
        assert sentence.startswith(f"GPU {number}: near "), sentence
        assert " GB/s, far 0.3 GB/s, unbound " in sentence, sentence
        assert "binding gives " in sentence, sentence
