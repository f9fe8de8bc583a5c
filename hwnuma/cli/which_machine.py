"""Which machine a command is about, and the GPUs in it: this system, a saved one, or a synthetic one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from hwnuma.devices.visible import VISIBLE_DEVICES
from hwnuma.errors import OptionError
from hwnuma.hwloc.files import decompressed
from hwnuma.hwloc.topology import Topology
from hwnuma.launch.job import Job
from hwnuma.launch.system import load_this_system
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.gpu import FoundGpus
from hwnuma.model.machine import Machine
from hwnuma.model.option_table import PREFIX
from hwnuma.model.value import replace
from hwnuma.policy.locality import Locality, disagreements, locate


def job_asked(parsed: argparse.Namespace, environment: Mapping[str, str]) -> Job:
    """What is asked for. Another machine's plan does not depend on this one's devices: their variables are left out."""
    if _is_elsewhere(parsed):
        environment = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    return Job.asked(vars(parsed), environment)


def _is_elsewhere(parsed: argparse.Namespace) -> bool:
    return parsed.topology is not None or parsed.synthetic is not None


def machine_asked(
    parsed: argparse.Namespace, job: Job, environment: Mapping[str, str], *, network: bool, needs_cpus: bool = True
) -> tuple[Machine, Job, tuple[str, ...]]:
    """The machine to plan for, the job as it is there, and what to say of its allowed CPUs and its devices.

    Args:
        parsed: the command line.
        job: what is asked for.
        environment: this process's.
        network: look at network cards too.
        needs_cpus: refuse a saved machine without CPUs.
    """
    warnings: list[str] = []
    affinity: CpuSet | None = None
    if _is_elsewhere(parsed):
        with _saved(parsed, network=network, needs_cpus=needs_cpus) as topology:
            machine = topology.machine()
            parsed.document = _document(parsed, topology)
        warnings += [
            f"{name}={environment[name]} is for this system's devices and counts for nothing here: choose some of "
            f"{machine.source}'s with --gpus 0,2"
            for name in VISIBLE_DEVICES
            if environment.get(name)
        ]
    else:
        from hwnuma.processes.binding import current_affinity  # another machine has none, but what was captured

        # The digest of a machine, which JSON has, is of its devices too.
        pci = network or job.gpus != "none" or parsed.format == "json"
        with load_this_system(pci=pci, network=network, environment=environment) as topology:
            machine, affinity = topology.machine(), current_affinity(topology)
            parsed.document = _document(parsed, topology)
    if machine.facts is not None:
        affinity = machine.facts.affinity
    if affinity is not None:
        if not machine.allowed_cpuset <= affinity:
            warnings.append(
                f"the process on this system has an affinity of CPUs {affinity}: of CPUs {machine.allowed_cpuset}, no "
                "others are planned"
            )
        machine = machine.narrowed(affinity)
    if parsed.allowed_cpus is not None:
        machine = machine.narrowed(CpuSet(parsed.allowed_cpus))
    return machine, job.on(machine), tuple(warnings)


def _saved(parsed: argparse.Namespace, *, network: bool, needs_cpus: bool) -> Topology:
    """The machine that the command line names instead of this one."""
    if parsed.topology is None:
        return Topology.from_synthetic(parsed.synthetic)
    if parsed.topology != "-":
        return Topology.from_xml_file(parsed.topology, network=network, needs_cpus=needs_cpus)
    from hwnuma.hwloc.xml import MOST_BYTES  # only for this

    source = "standard input"
    if sys.stdin is None:
        raise OptionError("--topology -: standard input is closed")
    document = decompressed(sys.stdin.buffer.read(MOST_BYTES + 1), source, most_bytes=MOST_BYTES)
    return Topology.from_xml_buffer(document, source=source, needs_cpus=needs_cpus)


def _document(parsed: argparse.Namespace, topology: Topology) -> str:
    """The topology as XML, if a file of it is to be written."""
    output = getattr(parsed, "output", None)
    return topology.export_xml() if output is not None and output.lower().endswith(".xml") else ""


def located(machine: Machine, job: Job) -> tuple[FoundGpus, Sequence[Locality]]:
    """The GPUs, and where each of them is."""
    found = job.find_gpus(machine)
    nccl_nodes = job.nccl_nodes()
    localities = locate(machine, found.all, nccl_nodes=nccl_nodes, unknown=job.options.unknown_locality)
    doubts = disagreements(machine, found.all, localities, nccl_nodes)
    return replace(found, warnings=(*found.warnings, *doubts)), localities
