"""Build the fake NVML, or write a description for it: see the package's docstring."""

from __future__ import annotations

import argparse
from pathlib import Path

from hwnuma.model.bitmap import CpuSet
from tests.fake_nvml import FakeGpu, FakeNvml, build


def _gpu(text: str) -> FakeGpu:
    address, given, cpus = text.partition("=")
    return FakeGpu(address, cpus=CpuSet(cpus) if given else None)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.fake_nvml", description=__doc__)
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
