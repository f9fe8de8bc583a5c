"""The table of visible devices: what each variable means, where that is written, and what hwnuma answers.

The tests read the rows; ``python -m tests.visible_devices`` writes them into ``docs/explanation/visible-devices.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hwnuma.errors import GpuNotFoundError, HwnumaError
from hwnuma.model.gpu import Gpu, MigInstance

DOCUMENT = Path(__file__).parent.parent / "docs" / "explanation" / "visible-devices.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def _nvidia(index: int, uuid: str | None, name: str = "NVIDIA A100-SXM4-80GB") -> Gpu:
    return Gpu(index, f"0000:{index + 1:02x}:00.0", uuid, name)


UUIDS = (
    "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
    "GPU-9e07c1b2-53d4-4f0e-8a61-0c1d2e3f4a5b",
    "GPU-8a51d0ee-7b1c-4c3a-9d2f-6b5a49382716",
    "GPU-1c44aa90-0f6e-4e55-b7d3-fedcba987654",
)
MIG_UUIDS = ("MIG-89c850dc-38e3-57df-85c7-690c186b68e9", "MIG-f2b5fbbd-850e-51bb-8ffa-ac9fb48126da")


def _instance(index: int) -> Gpu:
    name = "NVIDIA A100-SXM4-80GB MIG 3g.40gb"
    mig = MigInstance(UUIDS[0], gpu_instance=index + 1, compute_instance=0)
    return Gpu(index, "0000:01:00.0", MIG_UUIDS[index], name, device_index=0, mig=mig)


class Machine(NamedTuple):
    """A machine of the table."""

    vendor: str
    gpus: tuple[Gpu, ...]
    description: str


MACHINES = {
    "four": Machine(
        "nvidia",
        tuple(_nvidia(index, uuid) for index, uuid in enumerate(UUIDS)),
        "four NVIDIA GPUs of one model, UUIDs " + ", ".join(f"`{uuid[:8]}…`" for uuid in UUIDS),
    ),
    "mixed": Machine(
        "nvidia",
        (_nvidia(0, UUIDS[0], "NVIDIA T400"), _nvidia(1, UUIDS[1]), _nvidia(2, UUIDS[2])),
        "three NVIDIA GPUs, number 0 a slow model and 1 and 2 a fast one",
    ),
    "mig": Machine(
        "nvidia",
        (_instance(0), _instance(1), Gpu(2, "0000:02:00.0", UUIDS[1], "NVIDIA A100-SXM4-80GB", device_index=1)),
        f"two NVIDIA GPUs: number 0 (`{UUIDS[0][:8]}…`) has two MIG instances (hwnuma's 0 and 1: "
        f"`{MIG_UUIDS[0][:8]}…` with GPU instance 1, `{MIG_UUIDS[1][:8]}…` with GPU instance 2), "
        f"number 1 (`{UUIDS[1][:8]}…`, hwnuma's 2) is whole",
    ),
    "saved": Machine(
        "nvidia", tuple(_nvidia(index, None, "") for index in range(4)), "four GPUs without UUIDs, of a saved topology"
    ),
    "amd": Machine(
        "amd",
        tuple(
            Gpu(index, f"0000:{index + 1:02x}:00.0", f"GPU-{unique:016x}", "AMD Instinct MI300X")
            for index, unique in enumerate(
                (0x2B9D1F0A4C6E8D01, 0x2B7C3E5A19F0D422, 0x9A10FFEE00112233, 0xC0DE5EED4B1D7711)
            )
        ),
        "four AMD GPUs, UUIDs `GPU-2b9d…`, `GPU-2b7c…`, `GPU-9a10…`, `GPU-c0de…`",
    ),
    "partitions": Machine(
        "amd",
        tuple(
            Gpu(index, f"0000:{index // 2 + 1:02x}:00.0", f"GPU-{unique:016x}", compute_partition="DPX")
            for index, unique in enumerate(
                (0x2B9D1F0A4C6E8D01, 0x2B9D1F0A4C6E8D01, 0x9A10FFEE00112233, 0xC0DE5EED4B1D7711)
            )
        ),
        "two AMD GPUs in DPX, as KFD tells them: the partitions of the first (0 and 1) share the UUID `GPU-2b9d…`, as with "
        "kernels that know no other, those of the second (2 and 3) have one each, `GPU-9a10…` and `GPU-c0de…`",
    ),
    "domains": Machine(
        "nvidia",
        tuple(Gpu(index, f"0000:{index // 2 + 1:02x}:00.0", uuid, "NVIDIA B300") for index, uuid in enumerate(UUIDS)),
        "two NVIDIA GPUs of two locality domains each under MPS, as NVML tells them with NVML_MPS_DEVICE_ENUMERATION=1",
    ),
    "intel": Machine(
        "intel",
        tuple(Gpu(index, f"0000:{index + 1:02x}:00.0", name="Intel Data Center GPU") for index in range(4)),
        "four Intel GPUs of one tile each",
    ),
}

SOURCES = {
    "guide": "NVIDIA, CUDA Programming Guide, CUDA Environment Variables "
    "(<https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/environment-variables.html>)",
    "torch": "pytorch/pytorch, `torch/cuda/__init__.py`: the rule of `_parse_visible_devices` and "
    "`_transform_uuid_to_ordinals`, which imitate the CUDA driver where NVIDIA's guide is silent "
    "(pytorch/pytorch#84879, #92315); some of these rows are also in torch's own tests",
    "mig": "NVIDIA, Multi-Instance GPU User Guide, CUDA Device Enumeration "
    "(<https://docs.nvidia.com/datacenter/tesla/mig-user-guide/>)",
    "mps": "NVIDIA, NVML API Reference, MPS Locality Domain Device Enumeration "
    "(<https://docs.nvidia.com/deploy/nvml-api/api/group__nvmlMpsDeviceEnumeration.html>)",
    "rocr": "ROCm/ROCR-Runtime, `runtime/hsa-runtime/core/runtime/amd_filter_device.cpp`",
    "kfd": "ROCm/ROCR-Runtime, `libhsakmt/src/topology.c` and `runtime/hsa-runtime/core/runtime/amd_topology.cpp`; "
    "torvalds/linux, `drivers/gpu/drm/amd/amdkfd/kfd_topology.c` and `drivers/gpu/drm/amd/amdgpu/amdgpu_xcp.c`",
    "hip": "ROCm/clr, `rocclr/device/rocm/rocdevice.cpp`, `Device::init`",
    "ze": "Level Zero specification, Core Programming Guide, Affinity Mask",
    "neo": "intel/compute-runtime, `ExecutionEnvironment::parseAffinityMask`",
    "own": "not documented anywhere that was found: hwnuma's own choice",
}

CVD, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
ROCR, HIP, ZE = "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"


class Row(NamedTuple):
    """One row of the table.

    Attributes:
        answer: hwnuma's indices in the order of visibility, or the error that it raises.
        warns: a part of the warning that a user gets; "" for none.
        documented: the runtime's own answer where it is another one.
        strict: an error of strict mode, for the rows that say so.
    """

    machine: str
    environment: dict[str, str]
    answer: tuple[int, ...] | type[HwnumaError]
    source: str
    rule: str
    warns: str = ""
    documented: str = ""
    ambiguous: bool = False

    @property
    def name(self) -> str:
        """For pytest's list."""
        return f"{self.machine}: " + (
            " ".join(f"{name}={value}" for name, value in self.environment.items()) or "unset"
        )


def _cuda(value: str, answer: tuple[int, ...], source: str, rule: str, warns: str = "", machine: str = "four") -> Row:
    return Row(machine, {CVD: value}, answer, source, rule, warns)


ONE_EACH, FIRST = "only one", "the first instance"
UNKNOWN = "a fast one first"
ROWS = [
    # Indices
    Row("four", {}, (0, 1, 2, 3), "guide", "not set: all"),
    _cuda("", (), "guide", "empty: none"),
    _cuda("0", (0,), "guide", "one index"),
    _cuda("2,1", (2, 1), "guide", "the order of the list counts"),
    _cuda("3,2,1,0", (3, 2, 1, 0), "guide", "reversed, as Ray may shuffle it"),
    _cuda("1,2,3", (1, 2, 3), "guide", "restricted: CUDA's 0 is nvidia-smi's 1"),
    _cuda("-1", (), "guide", "an invalid index ends the list: the usual way to hide all"),
    _cuda("0,2,-1,1", (0, 2), "guide", "an invalid index ends the list", "the list ends before '-1'"),
    _cuda("0,7,1", (0,), "guide", "an index beyond the last GPU is invalid", "the list ends before '7'"),
    _cuda("4", (), "guide", "so is the number of GPUs itself", "the list ends before '4'"),
    _cuda("0,1,2,3,4", (0, 1, 2, 3), "guide", "one too many", "the list ends before '4'"),
    _cuda("99999999999999999999", (), "guide", "far too large a number", "no GPU's index"),
    _cuda("0,1,0", (), "torch", "a repetition empties the list", "names a GPU twice"),
    _cuda("0,0", (), "torch", "a repetition empties the list", "names a GPU twice"),
    _cuda("0, 1, 2", (0, 1, 2), "torch", "white space ahead of a number is passed over"),
    _cuda("1 ,2", (1, 2), "torch", "and behind it"),
    _cuda("2,+3,-0", (2, 3, 0), "torch", "signs are read"),
    _cuda("1gpu2,2ampere", (1, 2), "torch", "a number's tail is passed over, as by strtoul", "'1gpu2' is read as 1"),
    _cuda("0x1", (0,), "torch", "so a hexadecimal number is 0", "'0x1' is read as 0"),
    _cuda("0-2", (0,), "torch", "and a range is its first number (pytorch/pytorch#84879)", "'0-2' is read as 0"),
    _cuda("1.5", (1,), "torch", "and a fraction its integer", "'1.5' is read as 1"),
    _cuda("03", (3,), "torch", "leading zeros count for nothing: decimal, not octal"),
    _cuda("one,two,3", (), "torch", "a word is invalid", "the list ends before 'one'"),
    _cuda("3,2,two,1", (3, 2), "torch", "garbage in the middle ends the list", "the list ends before 'two'"),
    _cuda("all", (), "torch", "a word of NVIDIA_VISIBLE_DEVICES is no word here", "ends before 'all'"),
    _cuda("0;1", (0,), "torch", "the separator is a comma", "'0;1' is read as 0"),
    _cuda("0,", (0,), "torch", "an empty entry is invalid; at the end it changes nothing"),
    _cuda(",0", (), "torch", "an empty entry is invalid", "which is empty"),
    _cuda("0,,1", (0,), "torch", "an empty entry is invalid", "which is empty"),
    _cuda(" ", (), "torch", "white space alone is no number"),
    _cuda("+", (), "own", "a sign alone is no number", "is no number"),
    _cuda("\u0661", (), "own", "a digit of another script is no number to C", "is no number"),
    Row(
        "four",
        {CVD: "0,9,0"},
        (0,),
        "guide",
        "after an invalid index nothing counts, a repetition neither",
        "the list ends before '9'",
        "0; torch 2.13 says none: it looks for repetitions first",
    ),
    # UUIDs
    _cuda(UUIDS[2], (2,), "guide", "a UUID"),
    _cuda(f"{UUIDS[3]},{UUIDS[0]}", (3, 0), "guide", "UUIDs, in the order of the list"),
    _cuda("GPU-8932f937", (0,), "guide", "the beginning of a UUID, if it is one GPU's alone"),
    _cuda("GPU-9,GPU-1", (1, 3), "torch", "very short beginnings"),
    _cuda("GPU-8", (), "torch", "the beginning of two UUIDs is invalid", "beginning of 2 UUIDs"),
    _cuda("GPU-9e07,GPU-8,GPU-1c44", (1,), "torch", "and ends the list", "beginning of 2 UUIDs"),
    _cuda("GPU-", (), "torch", "every GPU's beginning", "beginning of 4 UUIDs"),
    _cuda("GPU-123,GPU-9e07", (), "torch", "an unknown UUID ends the list", "no UUID of a GPU here"),
    _cuda("GPU-9e07,GPU-123,GPU-1c44", (1,), "torch", "an unknown UUID in the middle", "no UUID of a GPU here"),
    _cuda("GPU-9e07,GPU-1c44,GPU-9e0", (), "torch", "a repetition, by another beginning", "names a GPU twice"),
    _cuda("GPU-9e07,2", (1,), "torch", "an index ends a list of UUIDs", "does not begin with GPU-"),
    _cuda("2,GPU-9e07", (2,), "torch", "a UUID ends a list of indices", "is no number"),
    _cuda("GPU-9e07, GPU-1c44", (1,), "torch", "no white space in a list of UUIDs", "does not begin with GPU-"),
    _cuda("8932f937", (), "own", "a UUID without GPU- is a number, and too large a one", "no GPU's index"),
    _cuda("GPU-8932F937", (), "own", "UUIDs are in lower case, as nvidia-smi prints them", "no UUID of a GPU here"),
    _cuda("gpu-8932f937", (), "own", "and begin with GPU- in upper case", "is no number"),
    Row(
        "saved",
        {CVD: UUIDS[0]},
        GpuNotFoundError,
        "own",
        "UUIDs that nobody knows: an error, no empty list",
        documented="0",
    ),
    Row("saved", {CVD: "2,0"}, (2, 0), "guide", "indices need no UUIDs"),
    # The order of unlike models
    Row(
        "mixed",
        {},
        (0, 1, 2),
        "guide",
        "FASTEST_FIRST is the default, and not NVML's order",
        "different models",
        UNKNOWN,
        ambiguous=True,
    ),
    Row(
        "mixed",
        {CVD: "0,1"},
        (0, 1),
        "guide",
        "indices are in that unknown order too",
        "different models",
        UNKNOWN,
        ambiguous=True,
    ),
    Row(
        "mixed",
        {CVD: "0", ORDER: "FASTEST_FIRST"},
        (0,),
        "guide",
        "the same, said aloud",
        "FASTEST_FIRST",
        "a fast one",
        ambiguous=True,
    ),
    Row("mixed", {CVD: "0,1", ORDER: "PCI_BUS_ID"}, (0, 1), "guide", "PCI_BUS_ID is the order of nvidia-smi"),
    Row("mixed", {ORDER: "PCI_BUS_ID"}, (0, 1, 2), "guide", "PCI_BUS_ID is the order of nvidia-smi"),
    Row("mixed", {CVD: "GPU-9e07,GPU-8932"}, (1, 0), "guide", "UUIDs need no order"),
    Row("mixed", {CVD: ""}, (), "guide", "nothing has no order"),
    Row("four", {ORDER: "FASTEST_FIRST", CVD: "1"}, (1,), "guide", "GPUs of one model: the same order either way"),
    # MIG
    Row("mig", {}, (0, 1, 2), "mig", "not set: hwnuma plans for every instance", ONE_EACH, FIRST),
    Row("mig", {CVD: MIG_UUIDS[1]}, (1,), "mig", "an instance by UUID"),
    Row("mig", {CVD: "MIG-f2b5"}, (1,), "own", "the beginning of an instance's UUID"),
    Row("mig", {CVD: ",".join(MIG_UUIDS)}, (0, 1), "mig", "several instances: one rank each", ONE_EACH, FIRST),
    Row(
        "mig",
        {CVD: f"MIG-{UUIDS[0]}/2/0"},
        (1,),
        "guide",
        "the form before R470: GPU, its instance, the compute instance",
    ),
    Row("mig", {CVD: "MIG-GPU-8932f937/1/0"}, (0,), "own", "with an abbreviated UUID"),
    Row("mig", {CVD: f"MIG-{UUIDS[0]}/5/0"}, (), "own", "an instance that is not there", "no UUID of a GPU here"),
    Row("mig", {CVD: f"{MIG_UUIDS[0]},{MIG_UUIDS[0]}"}, (), "own", "a repetition empties the list", "GPU twice"),
    Row("mig", {CVD: f"{MIG_UUIDS[0]},1"}, (0,), "torch", "an index ends a list of instances", "begin with MIG-"),
    Row("mig", {CVD: "0"}, (0, 1), "mig", "a whole GPU's index stands for all its instances", ONE_EACH, FIRST),
    Row("mig", {CVD: "1"}, (2,), "guide", "indices are nvidia-smi's, not hwnuma's"),
    Row("mig", {CVD: "2"}, (), "guide", "indices are nvidia-smi's, not hwnuma's", "no GPU's index"),
    Row("mig", {CVD: UUIDS[1]}, (2,), "guide", "the whole GPU beside it, by UUID"),
    # AMD
    # Parts of GPUs that count as devices
    Row("domains", {}, (0, 1, 2, 3), "mps", "each locality domain is a device with an index and a UUID"),
    Row("domains", {CVD: "3,0"}, (3, 0), "own", "indices are NVML's, of domains"),
    Row("domains", {CVD: UUIDS[2]}, (2,), "own", "a domain by the UUID that NVML has for it"),
    Row("amd", {}, (0, 1, 2, 3), "rocr", "not set: all"),
    Row("amd", {ROCR: "2,0"}, (2, 0), "rocr", "indices, in the order of the list"),
    Row("amd", {ROCR: ""}, (), "rocr", "empty: none"),
    Row("amd", {ROCR: "0, 1"}, (0, 1), "rocr", "white space is passed over"),
    Row("amd", {ROCR: "0x2,1"}, (2, 1), "rocr", "C's strtol in base 0: hexadecimal"),
    Row("amd", {ROCR: "1gpu"}, (), "rocr", "a number's tail makes it invalid, unlike CUDA's", "is no number"),
    Row("amd", {ROCR: "1,0,1,2"}, (1, 0), "rocr", "a repetition ends the list, unlike CUDA's", "is named twice"),
    Row("amd", {ROCR: "0,-1,2"}, (0,), "rocr", "an invalid index ends the list", "the list ends before '-1'"),
    Row("amd", {ROCR: "GPU-9A10,0"}, (2, 0), "rocr", "the beginning of a UUID in any case, mixed with indices"),
    Row("amd", {ROCR: "GPU-2b"}, (), "rocr", "the beginning of two UUIDs is invalid", "beginning of 2 UUIDs"),
    Row("amd", {HIP: "3,1"}, (3, 1), "hip", "indices, in the order of the list"),
    Row("amd", {HIP: "1,1,2"}, (1, 2), "hip", "a repetition changes nothing"),
    Row("amd", {HIP: "0, 1"}, (0,), "hip", "white space makes it invalid", "the list ends before ' 1'"),
    Row("amd", {HIP: ""}, (0, 1, 2, 3), "hip", "empty is as if not set"),
    Row("amd", {HIP: "GPU-c0de5eed4b1d7711"}, (3,), "hip", "a UUID"),
    Row("amd", {CVD: "2"}, (2,), "hip", "CUDA_VISIBLE_DEVICES is read where HIP_VISIBLE_DEVICES is not set"),
    Row("amd", {HIP: "1", CVD: "2"}, (1,), "hip", "and is not read where it is"),
    Row("amd", {ROCR: "3,2,1", HIP: "0,2"}, (3, 1), "hip", "HIP numbers what ROCR_VISIBLE_DEVICES left"),
    Row("amd", {ROCR: "3", HIP: "3"}, (), "hip", "and not all of them", "no GPU's index"),
    Row("partitions", {}, (0, 1, 2, 3), "kfd", "each partition is a device, in the order of KFD's nodes"),
    Row("partitions", {ROCR: "3,0"}, (3, 0), "rocr", "indices are of partitions"),
    Row("partitions", {HIP: "1,2"}, (1, 2), "hip", "likewise"),
    Row(
        "partitions", {ROCR: "2,1", HIP: "1"}, (1,), "hip", "HIP numbers the partitions that ROCR_VISIBLE_DEVICES left"
    ),
    Row("partitions", {ROCR: "GPU-c0de"}, (3,), "rocr", "a partition's own UUID"),
    Row(
        "partitions", {ROCR: "GPU-2b9d1f0a4c6e8d01"}, (), "rocr", "a UUID that partitions share", "beginning of 2 UUIDs"
    ),
    Row("partitions", {HIP: "GPU-2b9d1f0a4c6e8d01"}, (0,), "hip", "HIP takes the first that has it"),
    # Intel
    Row("intel", {}, (0, 1, 2, 3), "ze", "not set: all"),
    Row("intel", {ZE: "1,3"}, (1, 3), "ze", "indices"),
    Row("intel", {ZE: "3,1"}, (1, 3), "ze", "a mask: its order changes nothing"),
    Row("intel", {ZE: "0.0,0.1,2"}, (0, 2), "ze", "tiles: their card is visible"),
    Row("intel", {ZE: "0,0"}, (0,), "ze", "a repetition changes nothing"),
    Row("intel", {ZE: "1,9"}, (1,), "neo", "an index that is not there is passed over", "passed over"),
    Row("intel", {ZE: ""}, (0, 1, 2, 3), "neo", "empty is as if not set"),
]


def _shown(row: Row) -> str:
    if isinstance(row.answer, tuple):
        answer = ", ".join(map(str, row.answer)) or "none"
        return answer + (" ⚠" if row.warns else "") + (" (strict: error)" if row.ambiguous else "")
    return f"`{row.answer.__name__}`"


def _setting(row: Row) -> str:
    return "<br>".join(f"`{name}={value}`" for name, value in row.environment.items()) or "(nothing set)"


def markdown() -> str:
    """The machines, the table and the sources, as they stand in the document."""
    lines = ["Machines:", ""]
    lines += [f"- **{name}**: {machine.description}" for name, machine in MACHINES.items()]
    lines += [
        "",
        "| # | machine | set | runtime | hwnuma | rule | source |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for number, row in enumerate(ROWS, 1):
        runtime = "?" if row.source == "own" and not row.documented else row.documented
        if not runtime:
            assert isinstance(row.answer, tuple)
            runtime = ", ".join(map(str, row.answer)) or "none"
        cells = [str(number), row.machine, _setting(row), runtime, _shown(row), row.rule, row.source]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Sources:", ""]
    lines += [f"- **{name}**: {text}." for name, text in SOURCES.items()]
    return "\n".join(lines)


def main() -> None:
    """Write the table into the document."""
    head, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    DOCUMENT.write_text(f"{head}{BEGIN}\n{markdown()}\n{END}{tail}")


if __name__ == "__main__":
    main()
