"""A fake ``libcuda.so.1``, and a fake ``libamdhip64.so``, for tests: real shared libraries in C, from one source.

::

    fake = FakeCuda([FakeCudaGpu("0000:21:00.0", {0: 2000, 1: 1000})])
    subprocess.run([sys.executable, "-m", "hwnuma", "bench"], env=fake.env(tmp_path))
    assert calls(tmp_path, "cuMemcpyHtoD")

The dynamic loader reads LD_LIBRARY_PATH when a process starts, so the GPUs are there in a child process with that
environment. How long a copy takes is made up, by the NUMA node that the host's page is on; all else is refused or done
as the driver would.
"""

from __future__ import annotations

import atexit
import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fake_nvml import compiler

SOURCE = Path(__file__).with_name("fake_cuda.c")
LIBRARY_NAMES = {"cuda": "libcuda.so.1", "hip": "libamdhip64.so"}


def build(directory: Path, kind: str = "cuda") -> Path:
    """Build the library of one vendor in a directory and return its path.

    Raises:
        RuntimeError: there is no C compiler, or it failed; the message holds what it said.
    """
    command = compiler()
    if command is None:
        raise RuntimeError("the fake CUDA cannot be built: no C compiler (set CC, or install cc, gcc or clang)")
    directory.mkdir(parents=True, exist_ok=True)
    library = directory / LIBRARY_NAMES[kind]
    flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"]
    flags += ["-DHIP"] if kind == "hip" else []
    command += [*flags, f"-Wl,-soname,{library.name}", "-o", str(library), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stderr}")
    return library


@functools.cache
def library(kind: str = "cuda") -> Path:
    """The library, built once a test session in a directory of its own that goes away with it."""
    directory = Path(tempfile.mkdtemp(prefix=f"hwnuma-fake-{kind}-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return build(directory, kind)


@dataclass
class FakeCudaGpu:
    """A GPU as CUDA or HIP is to have it.

    Attributes:
        pci: its PCI address, handed on as it is written.
        rates: what it copies in a second from and to memory of each NUMA node, in 1e6 bytes.
        errors: function (without _v2) → error code.
    """

    pci: str
    rates: Mapping[int, float]
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass
class FakeCuda:
    """A machine's CUDA or HIP.

    Attributes:
        kind: "cuda" or "hip".
        errors: function (without _v2) → error code, whatever the GPU.
        hangs: functions that never return.
        crashes: functions that end the process.
    """

    gpus: Sequence[FakeCudaGpu] = ()
    kind: str = "cuda"
    errors: Mapping[str, int] = field(default_factory=dict)
    hangs: Sequence[str] = ()
    crashes: Sequence[str] = ()

    def text(self) -> str:
        """The description, as fake_cuda.c reads it."""
        lines = [f"error {function} {code}" for function, code in self.errors.items()]
        lines += [f"hang {function}" for function in self.hangs] + [f"crash {function}" for function in self.crashes]
        for gpu in self.gpus:
            lines += [f"gpu {gpu.pci}", *(f"  rate {node} {rate}" for node, rate in gpu.rates.items())]
            lines += [f"  error {function} {code}" for function, code in gpu.errors.items()]
        return "".join(f"{line}\n" for line in lines)

    def env(self, directory: Path, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment of a child process that shall see these GPUs.

        Args:
            directory: where the description and the log of calls go, such as pytest's tmp_path.
            base: the rest of the environment; this process's by default.
        """
        environment = dict(os.environ if base is None else base)
        description = directory / "cuda.txt"
        description.write_text(self.text())
        former = environment.get("LD_LIBRARY_PATH")
        path = ":".join(filter(None, (str(library(self.kind).parent), former)))
        own = {"HWNUMA_FAKE_CUDA": str(description), "HWNUMA_FAKE_CUDA_LOG": str(directory / "cuda.log")}
        return environment | own | {"LD_LIBRARY_PATH": path}


def calls(directory: Path, function: str | None = None) -> list[tuple[int, int]]:
    """The process and the GPU of each call of a function since ``env(directory)``, in order; None: of any."""
    log = directory / "cuda.log"
    rows = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(int(pid), int(gpu)) for pid, name, gpu in rows if function in (None, name)]
