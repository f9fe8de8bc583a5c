"""Processes that see a machine: those that are started with its environment, and those under the fake library."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hwnuma.model.gpu import Gpu
from hwnuma.testing.nvml import FakeNvml
from hwnuma.testing.state import State

# Not HWNUMA_…: hwnuma warns of such variables that it does not know, and hands them on.
VARIABLE = "_HWNUMA_TESTING_MACHINE"
_STARTUP = Path(__file__).parent / "startup"


def environment_of_child(state: State | None, base: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that shall see a machine: its Python finds `startup` ahead of all else."""
    if state is None:
        return dict(base)
    others = [folder for folder in base.get("PYTHONPATH", "").split(os.pathsep) if folder and folder != str(_STARTUP)]
    path = os.pathsep.join([str(_STARTUP), *others])
    return {**base, **state.variables, "PYTHONPATH": path, VARIABLE: state.folder}


def fake_nvml(
    gpus: Sequence[Gpu] | FakeNvml, directory: str | os.PathLike[str], base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Give the environment of a process to which a real ``libnvidia-ml.so.1`` shows these GPUs, whoever loads it.

    The library is built when it is first needed.

    Args:
        gpus: what it shows; of a machine that is entered, its `FakeMachine.nvml`.
        directory: where the description and the log of calls go, such as pytest's ``tmp_path``.
        base: the rest of the environment; by default this process's.

    Raises:
        NvmlError: there is no C compiler, or it failed.
        OptionError: a GPU has no PCI address.
    """
    described = gpus if isinstance(gpus, FakeNvml) else FakeNvml.of(gpus)
    return described.env(Path(directory), base)
