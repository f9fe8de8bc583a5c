"""The answer for every fixture machine in every mode, in files that a person can read: tests/golden/*.txt.

After a change on purpose: ``pytest tests/test_golden.py --update-golden``, then read the diff.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hwnuma import AffinityMode, GpuNotFoundError, Machine, Plan, TopologyGpus, plan
from tests.every_machine import MACHINES

GOLDEN = Path(__file__).parent / "golden"
RANKS_WITHOUT_GPUS = 6


def _written(made: Plan) -> str:
    lines = [f"mode {made.mode}"]
    for binding in made:
        gpus = ",".join(gpu.pci_address or "-" for gpu in binding.gpus) or "no GPU"
        if binding.error is None:
            what = f"node {binding.nodeset}  {binding.cores} cores  {binding.cpuset}  ({binding.locality})"
        else:
            what = type(binding.error).__name__
        lines.append(f"  rank {binding.local_rank}  {gpus}  {what}")
    lines.append(f"  unused {made.unused_cpuset or 'none'}")
    lines += [f"  warning: {warning}" for warning in made.warnings]
    return "\n".join(lines) + "\n"


def _answers(machine: Machine) -> str:
    try:
        gpus = TopologyGpus(machine).gpus()
        ranks = None
    except GpuNotFoundError:
        gpus, ranks = (), RANKS_WITHOUT_GPUS
    return "\n".join(_written(plan(machine, gpus, mode, ranks=ranks)) for mode in AffinityMode)


@pytest.mark.parametrize("name", MACHINES)
def test_every_mode_answers_as_written_down(
    name: str, machine_of: Callable[[str], Machine], request: pytest.FixtureRequest
) -> None:
    """Every rank of every fixture machine gets, in each mode, what its golden file says."""
    answers = _answers(machine_of(name))
    file = GOLDEN / f"{name}.txt"
    if request.config.getoption("--update-golden"):
        file.write_text(answers)
    assert answers == file.read_text()


def test_every_golden_file_belongs_to_a_machine() -> None:
    """No golden file is left over from a machine that is gone."""
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == MACHINES
    assert len(MACHINES) >= 17
