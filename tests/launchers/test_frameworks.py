"""docs/how-to/frameworks: the code of each page is run as it stands there, with two ranks where the page has eight.

TorchTitan, torchrun, Slurm, Open MPI and numactl are themselves. vLLM, SGLang, NeMo-Run and TensorRT-LLM are too large
for this, or do not install without a GPU: a stand-in does what the page says of them, which is what they were seen to do by
hand. Every worker tells in which CPUs the kernel has it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.documentation.blocks import typed_by, with_two
from tests.launchers.jobs import (
    SCRIPTS,
    WORKER,
    Told,
    environment,
    planned,
    require_module,
    require_two_cores,
    run,
    with_two_gpus,
)
from tests.launchers.slurm import OneNodeSlurm
from tests.require import require

pytestmark = pytest.mark.launchers

HERE = "tests/launchers/test_frameworks.py"
RANK = Path(__file__).with_name("rank.py")
EXCLUSIVE = ("--gpus", "none", "--mode", "exclusive", "--ranks", "2")
# Root is what CI is; Open MPI wants to be told that it knows.
OPEN_MPI_AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}

# A script of any name that tells where it runs, in the folder `told` beside it.
TRAIN = f"""
import runpy, sys
from pathlib import Path
sys.argv = [sys.argv[0], str(Path("told").resolve())]
runpy.run_path({str(WORKER)!r}, run_name="__main__")
"""

# vLLM 0.33's way with its three options: numactl before each worker, and --membind always.
VLLM = f"""#!{sys.executable}
import argparse, os, subprocess, sys
parser = argparse.ArgumentParser()
parser.add_argument("command", choices=["serve"])
parser.add_argument("model")
parser.add_argument("--tensor-parallel-size", type=int, default=1)
parser.add_argument("--numa-bind", action="store_true")
parser.add_argument("--numa-bind-nodes", type=int, nargs="+", default=[])
parser.add_argument("--numa-bind-cpus", nargs="+", default=[])
parser.add_argument("--worker-extension-cls")
options = parser.parse_args()
worker = [sys.executable, {str(RANK)!r}, "told"]
if options.numa_bind:
    for gpu, (node, cpus) in enumerate(zip(options.numa_bind_nodes, options.numa_bind_cpus, strict=True)):
        bound = ["numactl", f"--physcpubind={{cpus}}", f"--membind={{node}}"]
        subprocess.run([*bound, *worker], env={{**os.environ, "LOCAL_RANK": str(gpu)}}, check=True)
elif options.worker_extension_cls:
    for rank in range(options.tensor_parallel_size):
        subprocess.run([sys.executable, "extended.py", options.worker_extension_cls, str(rank)], check=True)
else:
    subprocess.run(worker, env={{**os.environ, "LOCAL_RANK": "0"}}, check=True)
"""

# vLLM 0.33's way with a worker extension: a worker of these two attributes inherits it, and its hook is called.
EXTENDED = """
import importlib, os, sys
from pathlib import Path
from types import SimpleNamespace
module, _, name = sys.argv[1].rpartition(".")
class Worker(getattr(importlib.import_module(module), name)):
    local_rank = int(sys.argv[2])
    parallel_config = SimpleNamespace(get_local_gpu_index=lambda rank: rank)
Worker().init_worker_extension()
from tests.launchers.rank import allowed_cpus, tell
tell(Path("told"), f"{sys.argv[2]}-0", cpus=allowed_cpus())
"""

# SGLang 0.5.23's way: a spawned process for each GPU, whose number is the third argument.
SGLANG = {
    "entrypoints/http_server": """
import multiprocessing
def launch_server(server_args, run_scheduler_process_func):
    spawn = multiprocessing.get_context("spawn")
    for gpu in range(server_args.tp):
        process = spawn.Process(target=run_scheduler_process_func, args=(server_args, None, gpu, gpu, 0, None, None))
        process.start()
        process.join()
        assert process.exitcode == 0
""",
    "managers/scheduler": """
from pathlib import Path
from tests.launchers.rank import allowed_cpus, tell
def run_scheduler_process(server_args, port_args, gpu_id, tp_rank, pp_rank, dp_rank, pipe_writer):
    tell(Path("told"), f"{gpu_id}-0", cpus=allowed_cpus(), model=server_args.model_path)
""",
    "server_args": """
import argparse
def prepare_server_args(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-path")
    parser.add_argument("--tp", type=int)
    return parser.parse_args(arguments)
""",
}

# NeMo-Run 0.11's way with its torchrun launcher: torchrun in an environment that has env_vars.
NEMO_RUN = """
import os, subprocess
from types import SimpleNamespace
LocalExecutor = Script = SimpleNamespace
def run(script, executor):
    assert (executor.launcher, script.entrypoint) == ("torchrun", "python")
    command = ["torchrun", f"--nproc-per-node={executor.ntasks_per_node}", script.path]
    subprocess.run(command, env=os.environ | executor.env_vars, check=True)
"""

# Told by every process of TorchTitan's trainer when it ends, through Python's own hook for a start.
AT_EXIT = """
import atexit, os, sys
from pathlib import Path
def tell_where():
    if Path(sys.argv[0]).parts[-2:] == ("torchtitan", "train.py"):
        from tests.launchers.rank import allowed_cpus, tell
        tell(Path("told"), f"{os.environ['LOCAL_RANK']}-0", cpus=allowed_cpus())
atexit.register(tell_where)
"""


def block(page: str, language: str, number: int = 0) -> str:
    """A block of a page, by its language and its place among those, with two ranks in place of eight."""
    found = [each.text for each in typed_by(HERE, f"docs/how-to/frameworks/{page}.md") if each.language == language]
    return "".join(map(with_two, found[number].splitlines(keepends=True)))


def shell(
    text: str, folder: Path, variables: Mapping[str, str], programs: Mapping[str, str] | None = None
) -> tuple[str, Told]:
    """Run a block in a folder of its own, where the stand-ins are found: standard output, and what its ranks told."""
    for name, program in (programs or {}).items():
        path = folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(program)
        path.chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{variables['PATH']}"
    there = {**variables, "PATH": path, "PYTHONPATH": f"{ROOT}"}
    command = ["bash", "-euc", f"cd {folder}; mkdir -p told; {text}"]
    status, output, errors, told = run(command, there, folder / "told")
    assert status == 0, errors
    return output, told


def distinct(expected: list[str]) -> list[str]:
    """The CPUs that two ranks have to themselves."""
    assert len(set(expected)) == 2
    return expected


@pytest.fixture(autouse=True)
def _needs() -> None:
    """Two ranks are told apart by their cores; hwnuma's programs are installed."""
    require_two_cores()
    require((SCRIPTS / "hwnuma-python").exists(), f"hwnuma is not installed here: {SCRIPTS} has no hwnuma-python")


# ---- vLLM ----------------------------------------------------------------------------------------------------


def test_vllm_is_given_the_plan(tmp_path: Path) -> None:
    """The options that are printed start each worker, by numactl, on the CPUs of its GPU."""
    require(shutil.which("numactl"), "numactl is not installed")
    variables = with_two_gpus(tmp_path, environment())
    _, told = shell(block("vllm", "sh"), tmp_path, variables, {"vllm": VLLM})
    assert told.cpus() == distinct(planned(variables, "--mode", "exclusive"))


def test_a_vllm_server_of_one_gpu_has_that_gpus_share(tmp_path: Path) -> None:
    """It sees one GPU, and gets that one's part of the node among all, not the whole node."""
    variables = with_two_gpus(tmp_path, environment())
    text = block("vllm", "sh", 1).replace("CUDA_VISIBLE_DEVICES=3", "CUDA_VISIBLE_DEVICES=1")
    _, told = shell(text, tmp_path, variables, {"vllm": VLLM})
    assert told[0, 0]["cpus"] == distinct(planned(variables, "--mode", "exclusive"))[1]


def test_vllms_worker_binds_itself(tmp_path: Path) -> None:
    """The extension's hook binds the worker to the place of its GPU."""
    variables = with_two_gpus(tmp_path, environment())
    (tmp_path / "near.py").write_text(block("vllm", "python"))
    (tmp_path / "extended.py").write_text(EXTENDED)
    text = block("vllm", "sh", 2).replace("PYTHONPATH=.", "PYTHONPATH=.:$PYTHONPATH")
    _, told = shell(text, tmp_path, variables, {"vllm": VLLM})
    assert told.cpus() == distinct(planned(variables, "--mode", "exclusive"))


# ---- SGLang --------------------------------------------------------------------------------------------------


def test_sglangs_schedulers_are_bound(tmp_path: Path) -> None:
    """Each scheduler is bound before SGLang's own function runs in it, and that gets its arguments."""
    variables = with_two_gpus(tmp_path, environment())
    for name, text in SGLANG.items():
        path = tmp_path / "sglang/srt" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "serve.py").write_text(block("sglang", "python"))
    _, told = shell(block("sglang", "sh"), tmp_path, variables)
    assert told.cpus() == distinct(planned(variables, "--mode", "exclusive"))
    assert told[1, 0]["model"] == "MODEL"


# ---- TensorRT-LLM --------------------------------------------------------------------------------------------

TRTLLM = f"""#!/bin/sh
echo "$TLLM_NUMA_AWARE_WORKER_AFFINITY $*"
exec {sys.executable} {RANK} told
"""


def test_tensorrt_llms_ranks_are_bound(tmp_path: Path) -> None:
    """Open MPI starts each rank bound, and TensorRT-LLM's variable, which keeps it from undoing that, reaches it."""
    require((SCRIPTS / "mpirun").exists(), "Open MPI 5 (the Python package openmpi) is not installed")
    variables = environment(HWNUMA_GPUS="none", **OPEN_MPI_AS_ROOT)
    output, told = shell(block("tensorrt-llm", "sh"), tmp_path, variables, {"trtllm-llmapi-launch": TRTLLM})
    assert told.cpus() == distinct(planned(variables, *EXCLUSIVE))
    assert output.splitlines() == ["0 trtllm-serve MODEL --tp_size 2"] * 2


@pytest.mark.root
def test_tensorrt_llms_ranks_are_bound_under_slurm(one_node_slurm: OneNodeSlurm, tmp_path: Path) -> None:
    """The same by srun, but for PMIx, whose library is not here: these ranks speak no MPI."""
    variables = one_node_slurm.environment(environment(HWNUMA_GPUS="none"))
    text = block("tensorrt-llm", "sh", 1).replace("--mpi=pmix ", "")
    output, told = shell(text, tmp_path, variables, {"trtllm-llmapi-launch": TRTLLM})
    assert told.cpus() == distinct(planned(variables, *EXCLUSIVE))
    assert output.splitlines() == ["0 trtllm-serve MODEL --tp_size 2"] * 2


# ---- Megatron, NeMo and TorchTitan: torchrun's ways, and Slurm's -----------------------------------------------


@pytest.mark.torch
def test_megatrons_ranks_are_bound(tmp_path: Path) -> None:
    """Megatron-LM's script is torchrun's."""
    require_module("torch")
    variables = environment(HWNUMA_GPUS="none")
    (tmp_path / "pretrain_gpt.py").write_text(TRAIN)
    _, told = shell(block("nemo", "sh"), tmp_path, variables)
    assert told.cpus() == distinct(planned(variables, *EXCLUSIVE))


@pytest.mark.torch
def test_nemo_runs_tasks_are_bound(tmp_path: Path) -> None:
    """The variables of an executor are all that it takes."""
    require_module("torch")
    variables = environment(HWNUMA_GPUS="none")
    for name, text in {"nemo_run": NEMO_RUN, "train": TRAIN, "job": block("nemo", "python")}.items():
        (tmp_path / f"{name}.py").write_text(text)
    _, told = shell("python job.py", tmp_path, variables)
    assert told.cpus() == distinct(planned(variables, *EXCLUSIVE))


def test_megatron_bridges_command_prefix_binds(tmp_path: Path) -> None:
    """In the place of numactl, it finds Slurm's rank; one CPU is reserved, so that mode node tells from no binding."""
    reserved = str(max(os.sched_getaffinity(0)))
    variables = environment(HWNUMA_GPUS="none", HWNUMA_RESERVE_CPUS=reserved, SLURM_STEP_TASKS_PER_NODE="2")
    (tmp_path / "train.py").write_text(TRAIN)
    names: dict[str, str] = {}
    exec(block("nemo", "python", 1), names)
    ranks = (f"RANK={rank} SLURM_LOCALID={rank} bash -c '{names['numa_cmd']} python train.py'" for rank in range(2))
    _, told = shell("\n".join(ranks), tmp_path, variables)
    expected = planned(variables, "--mode", "node", "--ranks", "2")
    assert told.cpus() == expected
    assert reserved not in expected[0].replace("-", ",").split(",")


@pytest.mark.torch
def test_torchtitans_trainers_are_bound(tmp_path: Path) -> None:
    """TorchTitan itself, in its mode that needs no GPU, which ends where the training would begin."""
    require_module("torchtitan")
    variables = environment(HWNUMA_GPUS="none")
    (tmp_path / "sitecustomize.py").write_text(AT_EXIT)
    text = block("torchtitan", "sh").replace("llama3_8b", "llama3_debugmodel --comm.mode local_tensor")
    _, told = shell(f"export PYTHONPATH=.:$PYTHONPATH; {text}", tmp_path, variables)
    assert told.cpus() == distinct(planned(variables, *EXCLUSIVE))
