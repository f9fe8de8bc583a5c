"""NVIDIA's driver, as a test describes it: for `pynvml` in this process, and as a shared library for others.

The library is a real ``libnvidia-ml.so.1`` in C, which the real nvidia-ml-py loads, and any other user of NVML::

    fake = FakeNvml([FakeGpu("0000:07:00.0", cpus=CpuSet("0-47")), FakeGpu("0000:0b:00.0")])
    subprocess.run([sys.executable, "-m", "hwnuma", "gpus"], env=fake.env(tmp_path))
    assert calls(tmp_path, "nvmlInit") == 1

It is built when it is first needed, which takes a C compiler. The dynamic loader reads LD_LIBRARY_PATH when a process
starts, so the GPUs are there in a child process with that environment; this process sees the same description by
``hwnuma_machine(…, pynvml=True)``. ``FakeNvml.of(gpus)`` presents any hwnuma Gpus to NVML. From a shell::

    python -m hwnuma.testing.nvml --build DIR
    python -m hwnuma.testing.nvml --describe FILE --gpu 0000:07:00.0=0-47 --gpu 0000:0b:00.0
    LD_LIBRARY_PATH=DIR HWNUMA_FAKE_NVML=FILE python -m hwnuma gpus
"""

from __future__ import annotations

import atexit
import functools
import os
import shlex
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hwnuma.errors import NvmlError, OptionError
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.gpu import Gpu

__all__ = [
    "DRIVER_NOT_LOADED",
    "FUNCTION_NOT_FOUND",
    "GPU_IS_LOST",
    "INSUFFICIENT_SIZE",
    "LIBRARY_NAME",
    "NOT_SUPPORTED",
    "NO_PERMISSION",
    "RESET_REQUIRED",
    "UNKNOWN",
    "VERSION_MISMATCH",
    "FakeGpu",
    "FakeMig",
    "FakeNvml",
    "build",
    "calls",
    "compiler",
    "library",
    "made_up_uuid",
]

SOURCE = Path(__file__).with_name("fake_nvml.c")
LIBRARY_NAME = "libnvidia-ml.so.1"

# nvml.h, nvmlReturn_t.
NOT_SUPPORTED, NO_PERMISSION, INSUFFICIENT_SIZE, DRIVER_NOT_LOADED = 3, 4, 7, 9
FUNCTION_NOT_FOUND, GPU_IS_LOST, RESET_REQUIRED, VERSION_MISMATCH, UNKNOWN = 13, 15, 16, 18, 999


def compiler() -> list[str] | None:
    """The C compiler's command: CC, or else cc, gcc or clang; None if there is none."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    return next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)


def build(directory: Path) -> Path:
    """Build the library in a directory and return its path.

    Raises:
        NvmlError: there is no C compiler, or it failed; the message holds what it said.
    """
    command = compiler()
    if command is None:
        raise NvmlError(
            f"the fake {LIBRARY_NAME} cannot be built: there is no C compiler (cc, gcc, clang): install one, or name "
            "it in CC; hwnuma_machine(…, pynvml=True) needs none"
        )
    directory.mkdir(parents=True, exist_ok=True)
    library = directory / LIBRARY_NAME
    flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-shared", "-fPIC"]
    command += [*flags, f"-Wl,-soname,{LIBRARY_NAME}", "-o", str(library), str(SOURCE)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- the user's compiler
    except OSError as error:
        raise NvmlError(f"the fake {LIBRARY_NAME} cannot be built: {command[0]}: {error.strerror} (see CC)") from None
    if done.returncode != 0:
        raise NvmlError(f"the fake {LIBRARY_NAME} cannot be built: {shlex.join(command)} failed:\n{done.stderr}")
    return library


@functools.cache
def library() -> Path:
    """The library, built once a process in a directory that goes away with it."""
    directory = Path(tempfile.mkdtemp(prefix="hwnuma-fake-nvml-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return build(directory)


def made_up_uuid(prefix: str, seed: str) -> str:
    """A UUID of the form that NVML has, always the same for the same seed."""
    return f"{prefix}-{uuid.uuid5(uuid.NAMESPACE_OID, seed)}"


def _statements(
    uuid: str, name: str, processes: Sequence[int], errors: Mapping[str, int | tuple[int, int]]
) -> Iterator[str]:
    yield f"  uuid {uuid}"
    yield f"  name {name}"
    yield from (f"  process {pid}" for pid in processes)
    yield from _errors(errors)


def _errors(errors: Mapping[str, int | tuple[int, int]]) -> Iterator[str]:
    for function, what in errors.items():
        code, times = what if isinstance(what, tuple) else (what, -1)
        yield f"  error {function} {code} {times}"


@dataclass
class FakeMig:
    """A MIG instance.

    Attributes:
        place: where among those that the GPU could have; vacant places are normal.
        errors: as in FakeGpu.
    """

    place: int
    uuid: str
    name: str = "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
    gpu_instance: int = 7
    compute_instance: int = 0
    processes: Sequence[int] = ()
    errors: Mapping[str, int | tuple[int, int]] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """Its part of a description."""
        yield f"  instance {self.place} {self.gpu_instance} {self.compute_instance}"
        yield from _statements(self.uuid, self.name, self.processes, self.errors)


@dataclass
class FakeGpu:
    """A GPU as NVML is to tell it.

    Attributes:
        pci: its PCI address, handed on as it is written.
        uuid: made up from the address by default.
        cpus: the CPU affinity; None for NOT_SUPPORTED; may be empty.
        nodes: the memory affinity; None for NOT_SUPPORTED.
        mig: None where MIG is not supported, False where it is off, or the instances (none: an empty list).
        processes: pids of compute processes.
        errors: function (without _v2, _v3) → NVML error code, or (code, how many times).
        nvlinks: how many NVLinks are up, by the PCI address of the GPU that they lead to, or "switch".
    """

    pci: str
    uuid: str | None = None
    name: str = "NVIDIA A100-SXM4-40GB"
    cpus: CpuSet | None = None
    nodes: NodeSet | None = None
    mig: Sequence[FakeMig] | bool | None = None
    processes: Sequence[int] = ()
    errors: Mapping[str, int | tuple[int, int]] = field(default_factory=dict)
    nvlinks: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill in the UUID."""
        self.uuid = self.uuid or made_up_uuid("GPU", self.pci)

    def lines(self) -> Iterator[str]:
        """Its part of a description."""
        yield f"gpu {self.pci}"
        yield from _statements(self.uuid or "", self.name, self.processes, self.errors)
        if self.cpus is not None:
            yield f"  cpus {self.cpus}"
        if self.nodes is not None:
            yield f"  nodes {self.nodes}"
        yield from (f"  nvlink {end} {links}" for end, links in self.nvlinks.items())
        if self.mig is not None:
            yield f"  mig {'off' if self.mig is False else 'on'}"
        for instance in self.mig if isinstance(self.mig, Sequence) else ():
            yield from instance.lines()


@dataclass
class FakeNvml:
    """A machine's NVML.

    Attributes:
        errors: function (without _v2, _v3) → NVML error code, or (code, how many times), whatever the GPU.
        init_delay: how long nvmlInit takes, in seconds.
        hangs: functions (without _v2, _v3) that never return.
        cpus_in_system: masks with room for fewer CPUs are refused with INSUFFICIENT_SIZE.
    """

    gpus: Sequence[FakeGpu] = ()
    errors: Mapping[str, int | tuple[int, int]] = field(default_factory=dict)
    driver: str = "570.86.15"
    init_delay: float = 0.0
    hangs: Sequence[str] = ()
    cpus_in_system: int = 64

    @classmethod
    def of(cls, gpus: Sequence[Gpu]) -> FakeNvml:
        """An NVML that has these GPUs, MIG instances included; UUIDs are made up where there are none.

        The GPUs must be in order of index, instances of one GPU next to each other.

        Raises:
            OptionError: a GPU has no PCI address.
        """
        fakes: list[FakeGpu] = []
        instances: list[FakeMig] = []
        for gpu in gpus:
            if gpu.pci_address is None:
                raise OptionError(f"{gpu} has no PCI address, so NVML cannot have it: give it one")
            parent_uuid = gpu.mig.parent_uuid if gpu.mig else gpu.uuid
            described = FakeGpu(gpu.pci_address, parent_uuid, cpus=gpu.cpu_affinity, nodes=gpu.memory_affinity)
            if gpu.mig is None:
                described.name = gpu.name or described.name
                fakes.append(described)
                continue
            if not fakes or fakes[-1].pci != gpu.pci_address or not isinstance(fakes[-1].mig, list):
                instances = described.mig = []
                fakes.append(described)
            instance = FakeMig(len(instances), gpu.uuid or made_up_uuid("MIG", f"{gpu.pci_address} {len(instances)}"))
            instance.name = gpu.name or instance.name
            instance.gpu_instance = gpu.mig.gpu_instance or 0
            instance.compute_instance = gpu.mig.compute_instance or 0
            instances.append(instance)
        return cls(fakes)

    def text(self) -> str:
        """The description, as fake_nvml.c reads it."""
        lines = [f"driver {self.driver}", f"init-delay {round(self.init_delay * 1000)}"]
        lines += [f"cpus-in-system {self.cpus_in_system}", *_errors(self.errors)]
        lines += [f"hang {function}" for function in self.hangs]
        return "\n".join([*lines, *(line for gpu in self.gpus for line in gpu.lines())]) + "\n"

    def variables(self, directory: Path) -> dict[str, str]:
        """Write the description into a directory and return the variables that it takes, alone."""
        description = directory / "nvml.txt"
        description.write_text(self.text(), encoding="utf-8", errors="surrogateescape")  # "\udcff" is the byte 0xff
        return {
            "LD_LIBRARY_PATH": str(library().parent),
            "HWNUMA_FAKE_NVML": str(description),
            "HWNUMA_FAKE_NVML_LOG": str(directory / "nvml.log"),
        }

    def env(self, directory: Path, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment of a child process that shall see these GPUs.

        Args:
            directory: where the description and the log of calls go, such as pytest's tmp_path.
            base: the rest of the environment; this process's by default.
        """
        environment = dict(os.environ if base is None else base)
        variables = self.variables(directory)
        if environment.get("LD_LIBRARY_PATH"):
            variables["LD_LIBRARY_PATH"] += ":" + environment["LD_LIBRARY_PATH"]
        return environment | variables


def calls(directory: Path, function: str | None = None) -> int:
    """How many times a function of NVML was called in all processes since ``env(directory)``; None: any."""
    log = directory / "nvml.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return sum(1 for line in lines if function is None or line.split()[1] == function)


def _gpu(text: str) -> FakeGpu:
    address, given, cpus = text.partition("=")
    return FakeGpu(address, cpus=CpuSet(cpus) if given else None)


def main() -> None:
    """Build the library, or write a description for it: see the module's docstring."""
    import argparse  # only for the command line

    parser = argparse.ArgumentParser(prog="python -m hwnuma.testing.nvml", description=main.__doc__)
    parser.add_argument("--build", type=Path, metavar="DIR", help="build libnvidia-ml.so.1 in this directory")
    parser.add_argument("--describe", type=Path, metavar="FILE", help="write a description for HWNUMA_FAKE_NVML")
    parser.add_argument(
        "--gpu", action="append", type=_gpu, default=[], metavar="PCI[=CPUS]", help="a GPU and its CPU affinity"
    )
    arguments = parser.parse_args()
    if not arguments.build and not arguments.describe:
        parser.error("nothing to do: give --build or --describe")
    if arguments.build:
        print(build(arguments.build))
    if arguments.describe:
        arguments.describe.write_text(FakeNvml(arguments.gpu).text())
        print(arguments.describe)


if __name__ == "__main__":
    main()
