"""NVML as a source of GPUs: the real nvidia-ml-py on top of a fake libnvidia-ml.so.1, in child processes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hwnuma import plan
from hwnuma.devices.visible import visible_gpus
from hwnuma.errors import GpuNotFoundError, NvmlError, OptionError
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.gpu import Gpu, MigInstance
from tests import fake_nvml
from tests.conftest import synthetic
from tests.fake_nvml import FakeGpu, FakeMig, FakeNvml, calls
from tests.forked import hwnuma, output_of
from tests.require import require


@pytest.fixture(autouse=True, scope="module")
def _compiler() -> None:
    """The fake NVML is built with a C compiler."""
    require(fake_nvml.compiler(), "there is no C compiler to build the fake NVML with")


ROOT = Path(__file__).parent.parent

# The child answers with a pickle: of what the expression gives, or of the error that it raises.
CHILD = """
import pickle, sys
from hwnuma.errors import HwnumaError
from hwnuma.devices.nvml import NvmlGpus
try:
    answer = {expression}
except HwnumaError as error:
    answer = error
sys.stdout.buffer.write(pickle.dumps(answer))
"""


def run(script: str, environment: Mapping[str, str]) -> bytes:
    """Run Python code in a Python of its own and return its output."""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=60).stdout


# A process of several threads asks NVML in one of its own, and not in a child.
SECOND_THREAD = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()\n"


def ask(fake: FakeNvml, directory: Path, expression: str = "NvmlGpus().gpus()", before: str = "", **more: str) -> Any:
    """What hwnuma finds out from a fake NVML; an error is raised here as it was there."""
    answer = pickle.loads(output_of(before + CHILD.format(expression=expression), fake.env(directory) | more))
    if isinstance(answer, Exception):
        raise answer
    return answer


def machine(count: int) -> list[FakeGpu]:
    """Some GPUs, in order of address."""
    return [FakeGpu(f"00000000:{index + 1:02X}:00.0", cpus=CpuSet([index])) for index in range(count)]


# --- What is found ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 8, 16])
def test_gpus_in_order(tmp_path: Path, count: int) -> None:
    """Every GPU is there once, in NVML's order, with a normalised address, UUID, model and CPUs."""
    fakes = machine(count)
    assert ask(FakeNvml(fakes), tmp_path) == tuple(
        Gpu(index, f"0000:{index + 1:02x}:00.0", each.uuid, each.name, cpu_affinity=CpuSet([index]))
        for index, each in enumerate(fakes)
    )


def test_no_gpu(tmp_path: Path) -> None:
    """An NVML without GPUs is an error of its own, for the caller to fall back on."""
    with pytest.raises(GpuNotFoundError, match="NVML works and finds no GPU"):
        ask(FakeNvml(), tmp_path)


@pytest.mark.parametrize(
    ("told", "address"),
    [
        ("00000000:07:00.0", "0000:07:00.0"),
        ("00000001:00:00.0", "0001:00:00.0"),
        ("0000FB49:00:00.0", "fb49:00:00.0"),
        ("00010000:E1:00.0", "10000:e1:00.0"),
        ("FFFFFFFF:FF:1F.7", "ffffffff:ff:1f.7"),
    ],
)
def test_domains(tmp_path: Path, told: str, address: str) -> None:
    """A PCI domain of up to 32 bits, as Azure's virtual machines and VMD have, survives whole."""
    assert [gpu.pci_address for gpu in ask(FakeNvml([FakeGpu(told)]), tmp_path)] == [address]


def test_affinity(tmp_path: Path) -> None:
    """CPUs and nodes near a GPU come as sets; an empty set (all filtered by the cgroup) is not an unknown one."""
    given = [("1", CpuSet("0-3,8"), NodeSet("0-1")), ("2", CpuSet(), NodeSet()), ("3", None, None)]
    gpus = ask(FakeNvml([FakeGpu(f"0000:0{bus}:00.0", cpus=cpus, nodes=nodes) for bus, cpus, nodes in given]), tmp_path)
    assert [(gpu.cpu_affinity, gpu.memory_affinity) for gpu in gpus] == [each[1:] for each in given]


def test_affinity_of_a_huge_machine(tmp_path: Path) -> None:
    """NVML refuses a mask that is too small with Insufficient Size; a larger one is asked for until it fits."""
    fake = FakeNvml([FakeGpu("0000:01:00.0", cpus=CpuSet("4000-4095"))], cpus_in_system=4096)
    assert [gpu.cpu_affinity for gpu in ask(fake, tmp_path)] == [CpuSet("4000-4095")]
    assert calls(tmp_path, "nvmlDeviceGetCpuAffinityWithinScope") == 3


def test_affinity_of_an_old_driver(tmp_path: Path) -> None:
    """A driver without the question of scope is asked the old question."""
    fake = FakeNvml(machine(1), errors={"nvmlDeviceGetCpuAffinityWithinScope": fake_nvml.FUNCTION_NOT_FOUND})
    assert [gpu.cpu_affinity for gpu in ask(fake, tmp_path)] == [CpuSet("0")]


@pytest.mark.fault("driver", "a call fails that only adds to what is known", "gives the GPUs without it")
@pytest.mark.parametrize(
    "function",
    [
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetName",
        "nvmlDeviceGetCpuAffinity",
        "nvmlDeviceGetMemoryAffinity",
        "nvmlShutdown",
    ],
)
def test_what_is_not_needed_may_fail(tmp_path: Path, function: str) -> None:
    """A GPU is usable without its UUID, name or affinities: an unknown error there is no failure."""
    gpus = ask(FakeNvml(machine(2), errors={function: fake_nvml.UNKNOWN}), tmp_path)
    assert [gpu.pci_address for gpu in gpus] == ["0000:01:00.0", "0000:02:00.0"]


@pytest.mark.parametrize("function", ["nvmlDeviceGetCpuAffinityWithinScope", "nvmlDeviceGetMemoryAffinity"])
def test_a_mask_that_is_never_long_enough_is_none(tmp_path: Path, function: str) -> None:
    """A driver that always asks for more words is asked a few times only, and the GPU is usable without it."""
    fake = FakeNvml(machine(1), errors={function: fake_nvml.INSUFFICIENT_SIZE})
    [gpu] = ask(fake, tmp_path)
    assert gpu.pci_address == "0000:01:00.0"
    assert 1 < calls(tmp_path, function) < 20


def test_links_that_are_down_or_lead_nowhere_do_not_count(tmp_path: Path) -> None:
    """Of three links to the other GPU the first is down; the end of a fourth is no PCI address."""
    one, other = FakeGpu("0000:01:00.0", nvlinks={"0000:02:00.0": 3, "nowhere": 1}), FakeGpu("0000:02:00.0")
    down = (
        "import pynvml; real = pynvml.nvmlDeviceGetNvLinkState\n"
        "pynvml.nvmlDeviceGetNvLinkState = lambda handle, link: real(handle, link) if link else 0\n"
    )
    assert ask(FakeNvml([one, other]), tmp_path, "NvmlGpus().nvlinks()") == {("0000:01:00.0", "0000:02:00.0"): 3}
    assert ask(FakeNvml([one, other]), tmp_path, "NvmlGpus().nvlinks()", down) == {("0000:01:00.0", "0000:02:00.0"): 2}


def test_locality_domains_of_mps(tmp_path: Path) -> None:
    """With NVML_MPS_DEVICE_ENUMERATION=1, NVML has devices of one address, and answers little else of them."""
    domains = [
        FakeGpu("0000:01:00.0", f"GPU-{number}0000000-0000-4000-8000-000000000000", cpus=CpuSet("0-7"))
        for number in "12"
    ]
    refused = ("nvmlDeviceGetCpuAffinityWithinScope", "nvmlDeviceGetMemoryAffinity", "nvmlDeviceGetMigMode")
    refused += ("nvmlSystemGetDriverVersion", "nvmlDeviceGetSerial", "nvmlDeviceGetNvLinkState")
    fake = FakeNvml(domains, errors=dict.fromkeys(refused, fake_nvml.NOT_SUPPORTED))
    gpus = ask(fake, tmp_path)
    assert [(gpu.index, gpu.pci_address, gpu.uuid) for gpu in gpus] == [
        (place, "0000:01:00.0", domain.uuid) for place, domain in enumerate(domains)
    ]
    assert [gpu.cpu_affinity for gpu in gpus] == [CpuSet("0-7")] * 2
    exclusive = plan(synthetic("numa:2 core:8 pu:1"), gpus, "exclusive")
    assert [str(binding.cpuset) for binding in exclusive] == ["0-3", "4-7"]


# --- MIG ------------------------------------------------------------------------------------------------

INSTANCES = [
    FakeMig(0, "MIG-aaaaaaaa-0000-5000-8000-000000000000", gpu_instance=7, processes=[300]),
    FakeMig(4, "MIG-bbbbbbbb-0000-5000-8000-000000000000", gpu_instance=11, compute_instance=1, processes=[200, 100]),
]


def test_mig_instances_are_gpus(tmp_path: Path) -> None:
    """Each instance is a GPU with its own index and UUID, at the whole GPU's address and near its CPUs."""
    whole, beside = FakeGpu("0000:01:00.0", mig=INSTANCES, cpus=CpuSet("0-7")), FakeGpu("0000:02:00.0", mig=False)
    first, second, third = ask(FakeNvml([whole, beside]), tmp_path)
    common = Gpu(0, "0000:01:00.0", name="NVIDIA A100-SXM4-40GB MIG 1g.5gb", cpu_affinity=CpuSet("0-7"), device_index=0)
    assert first == replace(common, uuid=INSTANCES[0].uuid, mig=MigInstance(whole.uuid, 7, 0))
    assert second == replace(common, index=1, uuid=INSTANCES[1].uuid, mig=MigInstance(whole.uuid, 11, 1))
    assert third == Gpu(2, "0000:02:00.0", beside.uuid, "NVIDIA A100-SXM4-40GB", device_index=1)


def test_mig_without_instances(tmp_path: Path) -> None:
    """A GPU with MIG enabled and no instance cannot be used by CUDA: it is left out, and its number kept free."""
    gpus = ask(FakeNvml([FakeGpu("0000:01:00.0", mig=[]), FakeGpu("0000:02:00.0")]), tmp_path)
    assert [(gpu.index, gpu.device_index, gpu.pci_address) for gpu in gpus] == [(0, 1, "0000:02:00.0")]


def test_mig_of_an_old_driver(tmp_path: Path) -> None:
    """A driver that has never heard of MIG has whole GPUs."""
    fake = FakeNvml(machine(1), errors={"nvmlDeviceGetMigMode": fake_nvml.FUNCTION_NOT_FOUND})
    assert [gpu.mig for gpu in ask(fake, tmp_path)] == [None]


def test_only_unusable_gpus(tmp_path: Path) -> None:
    """GPUs that are there and of no use to this process are an error that says why."""
    with pytest.raises(
        GpuNotFoundError, match=r"NVML has 1 GPUs and this process can use none of them.*MIG is enabled"
    ):
        ask(FakeNvml([FakeGpu("0000:01:00.0", mig=[])]), tmp_path)


# --- Permission -------------------------------------------------------------------------------------------


def test_gpus_of_another_job(tmp_path: Path) -> None:
    """GPUs without permission, as in a job's device cgroup, are not this process's: the others are numbered on."""
    fakes = machine(3)
    fakes[1].errors = {"nvmlDeviceGetHandleByIndex": fake_nvml.NO_PERMISSION}
    gpus = ask(FakeNvml(fakes), tmp_path)
    assert [(gpu.index, gpu.device_index, gpu.pci_address) for gpu in gpus] == [
        (0, None, "0000:01:00.0"),
        (1, 2, "0000:03:00.0"),
    ]


# --- Failures ---------------------------------------------------------------------------------------------

BY_ADDRESS = "or name the GPUs by PCI address, which needs no driver"
FAILURES = {
    "driver not loaded": (
        FakeNvml(errors={"nvmlInit": fake_nvml.DRIVER_NOT_LOADED}),
        "nvmlInit failed: Driver Not Loaded (NVML error 9): load the kernel module (modprobe nvidia), " + BY_ADDRESS,
    ),
    "library and driver of different versions": (
        FakeNvml(errors={"nvmlInit": fake_nvml.VERSION_MISMATCH}),
        "nvmlInit failed: RM has detected an NVML/RM version mismatch (NVML error 18): the driver's library and its "
        "kernel module differ in version, as after an update: reboot, or unload and load the nvidia modules, "
        + BY_ADDRESS,
    ),
    "no permission": (
        FakeNvml(errors={"nvmlInit": fake_nvml.NO_PERMISSION}),
        "nvmlInit failed: Insufficient Permissions (NVML error 4): give this process the /dev/nvidia* device nodes "
        "(a container: start it with GPUs: --gpus all)",
    ),
    "unknown error": (
        FakeNvml(errors={"nvmlInit": fake_nvml.UNKNOWN}),
        "nvmlInit failed: Unknown Error (NVML error 999): see what nvidia-smi says and the kernel's log, " + BY_ADDRESS,
    ),
    "an error that pynvml has no words for": (
        FakeNvml(errors={"nvmlInit": 4711}),
        "nvmlInit failed: fake NVML's text of error 4711 (NVML error 4711): see what nvidia-smi says and the kernel's "
        "log, " + BY_ADDRESS,
    ),
    "a GPU is lost": (
        FakeNvml([*machine(1), FakeGpu("0000:02:00.0", errors={"nvmlDeviceGetHandleByIndex": fake_nvml.GPU_IS_LOST})]),
        "GPU 1: nvmlDeviceGetHandleByIndex failed: GPU is lost (NVML error 15): it fell off the bus (see Xid in the "
        "kernel's log): reset it or reboot; to go on with the others, name them by PCI address",
    ),
    "a GPU is lost while it is asked": (
        FakeNvml([FakeGpu("0000:02:00.0", errors={"nvmlDeviceGetCpuAffinityWithinScope": fake_nvml.GPU_IS_LOST})]),
        "GPU 0: nvmlDeviceGetCpuAffinityWithinScope failed: GPU is lost (NVML error 15): it fell off the bus (see "
        "Xid in the kernel's log): reset it or reboot; to go on with the others, name them by PCI address",
    ),
    "a GPU needs a reset": (
        FakeNvml([FakeGpu("0000:02:00.0", errors={"nvmlDeviceGetUUID": fake_nvml.RESET_REQUIRED})]),
        "GPU 0: nvmlDeviceGetUUID failed: GPU requires restart (NVML error 16): reset it (nvidia-smi --gpu-reset) or "
        "reboot; to go on with the others, name them by PCI address",
    ),
    "a driver that is too old": (
        FakeNvml(machine(1), errors={"nvmlDeviceGetPciInfo": fake_nvml.FUNCTION_NOT_FOUND}),
        "GPU 0: nvmlDeviceGetPciInfo failed: Function Not Found (NVML error 13): this driver is older than hwnuma "
        "needs: update it, " + BY_ADDRESS,
    ),
    "an address that is none": (
        FakeNvml([FakeGpu("unknown")]),
        "NVML tells 'unknown' as the PCI address of its GPU 0, which cannot be read: name the GPUs by PCI address",
    ),
}


@pytest.mark.fault(
    "driver",
    "NVML or one of its calls fails: not loaded, another version than its library, no permission, a GPU lost",
    "gives one line: the call, NVML's own words, what to do",
)
@pytest.mark.parametrize(("fake", "message"), FAILURES.values(), ids=FAILURES)
def test_failure(tmp_path: Path, fake: FakeNvml, message: str) -> None:
    """Every failure is one line: the call, NVML's own words, and what to do; NVML is left as it was found."""
    with pytest.raises(NvmlError) as raised:
        ask(fake, tmp_path)
    print(f"\n{message}")
    assert str(raised.value) == message
    assert calls(tmp_path, "nvmlShutdown") == (0 if "nvmlInit" in fake.errors else 1)


@pytest.mark.fault("driver", "libnvidia-ml.so.1 is no shared library", "gives the loader's own words, and what to do")
def test_library_that_cannot_be_loaded(tmp_path: Path) -> None:
    """A library that is there and no good is reported in the dynamic loader's own words."""
    (tmp_path / "libnvidia-ml.so.1").write_text("no shared library")
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    error = pickle.loads(run(CHILD.format(expression="NvmlGpus().gpus()"), environment))
    assert type(error) is NvmlError
    assert "NVML Shared Library Not Found: " in str(error)
    assert "libnvidia-ml.so.1: file too short" in str(error) or "invalid ELF header" in str(error)
    assert "belongs to the NVIDIA driver: install it" in str(error)


@pytest.mark.fault(
    "driver", "there is no libnvidia-ml.so.1", "gives one line that names it, and the way to go on without a driver"
)
def test_library_missing() -> None:
    """Without the driver's library the message names it, and the way to go on without a driver."""
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has an NVIDIA driver, whose library is found first")
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    answer = pickle.loads(run(CHILD.format(expression="NvmlGpus().gpus()"), environment))
    assert type(answer) is NvmlError
    assert "nvmlInit failed: NVML Shared Library Not Found: libnvidia-ml.so.1: cannot open shared" in str(answer)
    assert str(answer).endswith(f"(a container: start it with GPUs, such as --gpus all), {BY_ADDRESS}")


def test_pynvml_missing(tmp_path: Path) -> None:
    """Without nvidia-ml-py the message says what to install."""
    block = "import sys; sys.modules['pynvml'] = None\n"
    error = pickle.loads(run(block + CHILD.format(expression="NvmlGpus().gpus()"), FakeNvml().env(tmp_path)))
    assert type(error) is NvmlError
    assert "pip install nvidia-ml-py" in str(error)
    assert "\n" not in str(error)


# --- Processes --------------------------------------------------------------------------------------------


def test_processes(tmp_path: Path) -> None:
    """Every compute process comes with its GPU, or its MIG instance, in order of GPU and pid."""
    fakes = [
        FakeGpu("0000:01:00.0", processes=[42, 7]),
        FakeGpu("0000:02:00.0", mig=INSTANCES),
        FakeGpu("0000:03:00.0"),
    ]
    found = ask(FakeNvml(fakes), tmp_path, "NvmlGpus().processes()")
    assert [(process.gpu.index, process.pid) for process in found] == [(0, 7), (0, 42), (1, 300), (2, 100), (2, 200)]
    assert (calls(tmp_path, "nvmlInit"), calls(tmp_path, "nvmlShutdown")) == (1, 1)


@pytest.mark.fault("driver", "processes start between NVML's two answers", "gives all of them")
def test_processes_that_start_meanwhile(tmp_path: Path) -> None:
    """When more processes start between NVML's two answers, NVML is asked again."""
    race = {"nvmlDeviceGetComputeRunningProcesses": (fake_nvml.INSUFFICIENT_SIZE, 2)}
    found = ask(FakeNvml([FakeGpu("0000:01:00.0", processes=[7], errors=race)]), tmp_path, "NvmlGpus().processes()")
    assert [process.pid for process in found] == [7]


def test_processes_that_cannot_be_told(tmp_path: Path) -> None:
    """A driver that does not tell processes is an error that names the GPU."""
    fake = FakeNvml(machine(1), errors={"nvmlDeviceGetComputeRunningProcesses": fake_nvml.NOT_SUPPORTED})
    with pytest.raises(
        NvmlError, match=r"GPU 0 \(0000:01:00.0\): nvmlDeviceGetComputeRunningProcesses_v3 failed: Not Sup"
    ):
        ask(fake, tmp_path, "NvmlGpus().processes()")


# --- Cost ----------------------------------------------------------------------------------------------------


def test_one_initialisation(tmp_path: Path) -> None:
    """However many GPUs there are, and however slowly NVML starts, one call starts and stops it once."""
    assert len(ask(FakeNvml(machine(16), init_delay=0.2), tmp_path)) == 16
    assert (calls(tmp_path, "nvmlInit"), calls(tmp_path, "nvmlShutdown")) == (1, 1)


def test_import_costs_nothing(tmp_path: Path) -> None:
    """Importing hwnuma and making an NvmlGpus neither imports pynvml nor loads nor starts NVML."""
    script = (
        "import sys, hwnuma, hwnuma.devices.nvml, hwnuma.devices.visible; hwnuma.devices.nvml.NvmlGpus().name\n"
        "print(sorted({'pynvml', 'torch', 'cuda', 'ctypes'} & set(sys.modules)))\n"
        "print('nvidia' in open('/proc/self/maps').read())"
    )
    assert run(script, FakeNvml(machine(1)).env(tmp_path)) == b"[]\nFalse\n"
    assert calls(tmp_path) == 0


def test_no_cuda(tmp_path: Path) -> None:
    """Asking for the GPUs loads NVML and not the CUDA driver, so no context can come to be.

    Seen in a process of two threads, which asks by itself; one that has a child ask does not even have NVML.
    """
    libraries = (
        "(NvmlGpus().gpus(), [name in open('/proc/self/maps').read() for name in ('libnvidia-ml', 'libcuda')])[1]"
    )
    assert ask(FakeNvml(machine(1)), tmp_path, libraries, before=SECOND_THREAD) == [True, False]
    assert ask(FakeNvml(machine(1)), tmp_path, libraries) == [False, False]


def test_fork(tmp_path: Path) -> None:
    """A child that is forked after a call inherits nothing that hinders it: it can ask by itself."""
    script = """
import os
from hwnuma.devices.nvml import NvmlGpus
before = NvmlGpus().gpus()
child = os.fork()
if not child:
    os._exit(0 if NvmlGpus().gpus() == before else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), NvmlGpus().gpus() == before)
"""
    assert run(script, FakeNvml(machine(2)).env(tmp_path)) == b"0 True\n"
    assert (calls(tmp_path, "nvmlInit"), calls(tmp_path, "nvmlShutdown")) == (3, 3)


def test_caller_who_uses_nvml_too(tmp_path: Path) -> None:
    """A caller's own NVML goes on working after hwnuma has stopped using it."""
    expression = "[pynvml.nvmlInit(), len(NvmlGpus().gpus()), pynvml.nvmlDeviceGetCount(), pynvml.nvmlShutdown()]"
    answer = run("import pynvml\n" + CHILD.format(expression=expression), FakeNvml(machine(2)).env(tmp_path))
    assert pickle.loads(answer) == [None, 2, 2, None]


# --- A driver that hangs, crashes or tells nonsense ----------------------------------------------------------


@pytest.mark.fault("driver", "a call never comes back", "gives an error after HWNUMA_NVML_TIMEOUT")
@pytest.mark.parametrize("threads", ["", SECOND_THREAD], ids=["one thread", "two threads"])
@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount", "nvmlShutdown"])
def test_a_driver_that_hangs_is_an_error_in_time(tmp_path: Path, function: str, threads: str) -> None:
    """Whichever call it is that never returns: one line with the limit and how to raise it."""
    started = time.monotonic()
    with pytest.raises(NvmlError) as raised:
        ask(FakeNvml(machine(1), hangs=[function]), tmp_path, before=threads, HWNUMA_NVML_TIMEOUT="1")
    assert time.monotonic() - started < 30
    print(f"\n{raised.value}")
    assert str(raised.value) == (
        "NVML cannot be asked for the GPUs: it has not answered within 1 s: see what nvidia-smi says and the kernel's "
        f"log, {BY_ADDRESS}; HWNUMA_NVML_TIMEOUT=SECONDS waits longer"
    )
    assert calls(tmp_path, function) == 1


def test_a_slow_driver_is_waited_for(tmp_path: Path) -> None:
    """A limit above what it takes changes nothing."""
    assert len(ask(FakeNvml(machine(2), init_delay=1.5), tmp_path, HWNUMA_NVML_TIMEOUT="30")) == 2


@pytest.mark.parametrize("limit", ["0", "-1", "x", "²", "9" * 5000, "1e9"])
def test_a_time_limit_that_makes_no_sense_is_told(tmp_path: Path, limit: str) -> None:
    """The message names the variable and the bounds."""
    with pytest.raises(
        OptionError, match=r"HWNUMA_NVML_TIMEOUT \(seconds\) is '.*', and not a whole number from 1 to 86400"
    ):
        ask(FakeNvml(machine(1)), tmp_path, HWNUMA_NVML_TIMEOUT=limit)


def exec_with(fake: FakeNvml, directory: Path, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `hwnuma exec` of `echo ran` on a DGX that is declared to be this system."""
    saved = {"HWLOC_XMLFILE": str(ROOT / "fixtures" / "topologies" / "dgx_a100_nps4.xml"), "HWLOC_THISSYSTEM": "1"}
    words = ["exec", "--local-rank", "0", *options, "--", "echo", "ran"]
    return hwnuma(words, fake.env(directory) | saved | more, cwd=ROOT)


@pytest.mark.fault(
    "driver", "a call never comes back, under hwnuma exec", "gives the GPUs of the topology, and a warning"
)
def test_exec_over_a_driver_that_hangs_goes_on_with_the_topology(tmp_path: Path) -> None:
    """With a warning; and as nothing is bound to CPUs that are not here, it runs unbound. The command has no child."""
    hanging = FakeNvml(machine(1), hangs=["nvmlInit"])
    done = exec_with(hanging, tmp_path, "--fallback", HWNUMA_NVML_TIMEOUT="1")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "the GPUs are those of the topology, since NVML does not work: NVML cannot be asked" in done.stderr
    done = exec_with(hanging, tmp_path, "--gpus", "nvml", HWNUMA_NVML_TIMEOUT="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "it has not answered within 1 s" in done.stderr
    done = exec_with(hanging, tmp_path, "--gpus", "nvml", "--fallback", HWNUMA_NVML_TIMEOUT="1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (0, "ran\n", 1)


@pytest.mark.fault("driver", "the name of a GPU is no UTF-8", "gives the name with its bytes as escapes")
@pytest.mark.parametrize("threads", ["", SECOND_THREAD], ids=["one thread", "two threads"])
def test_a_name_that_is_no_text_is_a_name_still(tmp_path: Path, threads: str) -> None:
    """It is decoded by pynvml as UTF-8 and fails; the byte is shown as what it is, and nothing depends on it."""
    fakes = [FakeGpu("0000:01:00.0", uuid="GPU-\udcfe1", name="NVIDIA \udcff H100")]
    gpu = ask(FakeNvml(fakes), tmp_path, before=threads)[0]
    assert (gpu.name, gpu.uuid, gpu.pci_address) == ("NVIDIA \ufffd H100", "GPU-\ufffd1", "0000:01:00.0")


@pytest.mark.fault("driver", "the address of a GPU is no UTF-8", "gives one line that shows it")
def test_an_address_that_is_no_text_is_told(tmp_path: Path) -> None:
    """It decides where the GPU is, so there is no going on without it."""
    with pytest.raises(
        NvmlError, match="NVML tells '0000:\ufffd1:00.0' as the PCI address of its GPU 0, which cannot be read"
    ):
        ask(FakeNvml([FakeGpu("0000:\udcff1:00.0", uuid="GPU-1")]), tmp_path)


@pytest.mark.fault("driver", "pynvml raises what is no NVMLError", "gives an NvmlError")
def test_whatever_pynvml_raises_is_an_nvml_error(tmp_path: Path) -> None:
    """What is no NVMLError, as of a driver that this pynvml does not know, names the call."""
    broken = "import pynvml\ndef fail(): raise KeyError('version')\npynvml.nvmlDeviceGetCount = fail\n"
    with pytest.raises(NvmlError, match="nvmlDeviceGetCount failed: pynvml raised KeyError: 'version'"):
        ask(FakeNvml(machine(1)), tmp_path, before=broken)


def test_gpus_that_are_left_out_are_logged_where_was_asked(tmp_path: Path) -> None:
    """The remark crosses from the child that asks."""
    fakes = [FakeGpu("0000:01:00.0", mig=[]), FakeGpu("0000:02:00.0")]
    script = (
        "import logging, sys; logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(message)s')\n"
        "from hwnuma.devices.nvml import NvmlGpus; NvmlGpus().gpus()"
    )
    assert b"GPU 0 (0000:01:00.0) is left out: MIG is enabled" in run(script, FakeNvml(fakes).env(tmp_path))


# --- Together with what is visible -------------------------------------------------------------------------


def test_round_trip(tmp_path: Path) -> None:
    """Any Gpus can be presented to NVML, and come back as they were."""
    whole = Gpu(0, "0000:01:00.0", "GPU-1", "NVIDIA H100", cpu_affinity=CpuSet("0-3"), memory_affinity=NodeSet("0"))
    mig = MigInstance("GPU-2", 1, 0)
    first = Gpu(1, "0000:02:00.0", "MIG-1", "NVIDIA H100 MIG 1g.10gb", cpu_affinity=CpuSet(), device_index=1, mig=mig)
    second = replace(first, index=2, uuid="MIG-2", mig=replace(mig, gpu_instance=2))
    last = Gpu(3, "fb49:00:00.0", "GPU-3", "NVIDIA H100", device_index=2)
    gpus = (whole, first, second, last)
    assert ask(FakeNvml.of(gpus), tmp_path) == gpus


def test_visible_devices_of_a_shuffled_list(tmp_path: Path) -> None:
    """A shuffled, shortened list of UUIDs leads each local rank to the right PCI address."""
    gpus = ask(FakeNvml(machine(8)), tmp_path)
    order = (5, 2, 7)
    visible = visible_gpus(gpus, {"CUDA_VISIBLE_DEVICES": ",".join(gpus[index].uuid for index in order)})
    assert [gpu.pci_address for gpu in visible.gpus] == ["0000:06:00.0", "0000:03:00.0", "0000:08:00.0"]


# --- The fake itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", ["", SECOND_THREAD], ids=["one thread", "two threads"])
def test_broken_description(tmp_path: Path, threads: str) -> None:
    """A description with a mistake aborts with its line, instead of testing something else.

    That ends the child that asks; its last words and the signal are in the error. Where a thread asks, it ends all.
    """
    environment = FakeNvml().env(tmp_path)
    Path(environment["HWNUMA_FAKE_NVML"]).write_text("gpu 0000:01:00.0\n  cpu 0-3\n")
    script = f"{threads}from hwnuma.devices.nvml import NvmlGpus; NvmlGpus().gpus()"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == (-signal.SIGABRT if threads else 1)
    assert "nvml.txt:2: cannot understand:   cpu 0-3" in done.stderr
    assert (
        threads
        or "NvmlError: NVML cannot be asked for the GPUs: the process that asked it ended by SIGABRT" in done.stderr
    )


def test_command_line(tmp_path: Path) -> None:
    """A shell test builds the library and writes a description with one command."""
    description = tmp_path / "gpus.txt"
    gpus = ["--gpu", "0000:07:00.0=0-3", "--gpu", "0000:0b:00.0"]
    command = [
        sys.executable,
        "-m",
        "hwnuma.testing.nvml",
        "--build",
        str(tmp_path),
        "--describe",
        str(description),
        *gpus,
    ]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "HWNUMA_FAKE_NVML": str(description)}
    found = pickle.loads(run(CHILD.format(expression="NvmlGpus().gpus()"), environment))
    assert [(gpu.pci_address, gpu.cpu_affinity) for gpu in found] == [
        ("0000:07:00.0", CpuSet("0-3")),
        ("0000:0b:00.0", None),
    ]


def test_exec_within_an_outer_mask_asks_the_driver_once(tmp_path: Path) -> None:
    """It plans twice, within the mask and without it, to say what the mask costs; the GPUs are the same both times."""
    cpus = sorted(os.sched_getaffinity(0))
    require(len(cpus) > 1, "a mask that leaves something out needs two CPUs")
    command = [sys.executable, "-m", "hwnuma", "exec", "--unknown-locality", "node0", "--fallback", "nearest"]
    done = subprocess.run(
        ["taskset", "-c", str(cpus[0]), *command, "--local-rank", "0", "--", "true"],
        capture_output=True, text=True, check=True, env=FakeNvml(machine(1)).env(tmp_path), timeout=60,
    )  # fmt: skip
    assert "instead of" in done.stderr
    assert calls(tmp_path, "nvmlInit") == 1


def test_a_pynvml_without_a_function_is_an_older_driver() -> None:
    """What it lacks is told as a driver tells it."""
    from hwnuma.devices import nvml

    with pytest.raises(nvml._CallError, match="this pynvml has no such function"):
        nvml._Nvml(object(), [])("nvmlDeviceGetNothing")
