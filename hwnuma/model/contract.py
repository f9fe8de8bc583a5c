"""The JSON contract of a plan, as types: what `Plan.as_dict` gives and ``hwnuma plan --format json`` prints.

Keys may be added; those that are here stay. Nothing imports this at run time.
"""

from __future__ import annotations

from typing import TypedDict


class GpuDict(TypedDict):
    """A GPU; what its source does not know is None."""

    index: int
    pci_address: str | None
    uuid: str | None
    name: str | None


class ErrorDict(TypedDict):
    """Why a rank is not placed: the error's class, and its sentence."""

    type: str
    message: str


class RailDict(TypedDict):
    """A NIC that a rank sends through, and how near it is: a word of ``nvidia-smi topo -m``."""

    name: str
    port: int
    pci_address: str
    path: str


class _RankDict(TypedDict):
    local_rank: int
    gpus: list[GpuDict]


class BindingDict(_RankDict, total=False):
    """One rank: with ``error``, or with all the others. Sets are in the kernel's list form (``0-3,8``).

    ``nics`` is there where NICs were asked for, and ``cores_by_preference`` where some cores are preferred: how many of
    them the rank has, of each of the plan's ``preferred``, and at last of no such.
    """

    cpuset: str
    nodeset: str
    cores: int
    locality: str
    memory: str
    near_memory_nodes: str
    nics: list[RailDict]
    cores_by_preference: list[int]
    error: ErrorDict


class OverlapDict(TypedDict):
    """Two ranks that share CPUs, and which; of a plan with more than 10,000 such pairs, all ranks that share them."""

    ranks: list[int]
    cpuset: str


class _PlanDict(TypedDict):
    schema: int
    mode: str
    topology: str
    machine: str | None
    allowed_cpuset: str
    bindings: list[BindingDict]
    unused_cpuset: str
    overlaps: list[OverlapDict]
    warnings: list[str]


class PlanDict(_PlanDict, total=False):
    """A plan; ``schema`` is 1 until a key changes its meaning.

    ``machine`` is a digest of what the machine is, the same on the machine itself and of its capture. ``preferred`` is
    there where some CPUs are: lists of CPUs, the most preferred first.
    """

    preferred: list[str]
