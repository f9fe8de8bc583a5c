"""A list of GPUs as text for people (a plan's is `str(plan)`, and drawings have rooms of their own). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hwnuma.model.characters import printable_text
from hwnuma.model.gpu import Gpu
from hwnuma.model.table import table_lines
from hwnuma.policy.locality import Locality
from hwnuma.report.data import gpus_as_data


def gpus_as_text(gpus: Sequence[Gpu], localities: Sequence[Locality], visible: Sequence[Gpu]) -> str:
    """The GPUs as a table for people: where each is, who says so, and which rank would drive it."""
    headers = ("GPU", "visible as", "PCI address", "UUID", "name", "node", "node's CPUs", "known from", "driver's CPUs")
    keys = ("index", "visible_as", "pci_address", "uuid", "name", "numa_node", "cpuset", "locality", "driver_cpuset")
    data = gpus_as_data(gpus, localities, visible)
    lines = table_lines(headers, [["-" if row[key] is None else row[key] for key in keys] for row in data])
    lines += [f"GPU {row['index']}: {row['error']}" for row in data if row["error"]]
    return printable_text(lines)
