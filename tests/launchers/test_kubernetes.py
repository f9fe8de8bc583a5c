"""The manifests of examples/kubernetes are what Kubernetes takes, and start hwnuma by options that it has."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwnuma.cli.options import EXEC_OPTIONS, texts_of
from hwnuma.launch.job import Job
from hwnuma.launch.told import Told
from tests.conftest import ROOT
from tests.launchers.jobs import require_module

pytestmark = pytest.mark.launchers

_FOLDER = ROOT / "examples" / "kubernetes"
_KUBELET = "kubelet.yaml"  # read by the kubelet from its disk: Kubernetes publishes no schema of it
FILES = sorted(path.name for path in _FOLDER.glob("*.yaml"))
VERSIONS = ("1.34", "1.35", "1.36", "1.37")
_UNITS = {"Mi": 1 << 20, "Gi": 1 << 30}


def _validator() -> Any:
    require_module("kubernetes_validate")
    return importlib.import_module("kubernetes_validate")


def _objects(name: str) -> list[dict[str, Any]]:
    require_module("yaml")
    return [dict(each) for each in importlib.import_module("yaml").safe_load_all(Path(_FOLDER, name).read_text())]


def _pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for name in FILES:
        for each in _objects(name):
            if each["kind"] == "Pod":
                yield name, each["spec"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [name for name in FILES if name != _KUBELET])
def test_an_object_is_valid_by_kubernetes_own_schema(name: str, version: str) -> None:
    """Strictly: a field that a version does not know is an error."""
    validator = _validator()
    for each in _objects(name):
        validator.validate(each, version, strict=True)


def test_a_wrong_object_is_found() -> None:
    """The schemas are those of the kinds that are in the files."""
    validator = _validator()
    for name, spelled, wrongly in (("pod.yaml", "limits", "limit"), ("dra.yaml", "exactly", "exact")):
        text = Path(_FOLDER, name).read_text().replace(f"{spelled}:", f"{wrongly}:")
        wrong = next(iter(importlib.import_module("yaml").safe_load_all(text)))
        with pytest.raises(validator.ValidationError, match=wrongly):
            validator.validate(wrong, VERSIONS[0], strict=True)


def test_every_pod_gets_cpus_of_its_own() -> None:
    """Each container of a Guaranteed pod has limits of memory and of whole CPUs, and no other requests."""
    pods = list(_pods())
    assert len(pods) == 3
    for name, spec in pods:
        for container in spec["containers"]:
            resources = container["resources"]
            assert "requests" not in resources, name
            assert int(resources["limits"]["cpu"]) > 0, name
            assert "memory" in resources["limits"], name


def test_every_pod_is_of_the_standard_restricted_but_for_the_capability_that_memory_takes() -> None:
    """No root, no new privileges, no capability, the runtime's profile (Pod Security Standards, "restricted")."""
    for name, spec in _pods():
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            added = ["SYS_NICE"] if name == "memory.yaml" else []
            assert container["securityContext"]["capabilities"] == {
                "drop": ["ALL"],
                **({"add": added} if added else {}),
            }


def test_every_pod_starts_its_command_by_hwnuma_exec_with_options_that_there_are() -> None:
    """As many ranks as it has GPUs, and words that exec takes."""
    for name, spec in _pods():
        (container,) = spec["containers"]
        words = [*container["command"], *container["args"]]
        start = words.index("hwnuma")
        assert words[start + 1] == "exec"
        texts, command = texts_of(words[start + 2 :], EXEC_OPTIONS)
        assert command == ["python", "-u", "train.py"], name
        told, job = Told.asked(texts, {}), Job.asked(texts, {})
        if name == "dra.yaml":
            template = _objects(name)[0]["spec"]["spec"]["devices"]["requests"][0]["exactly"]
            gpus = template["count"]
        else:
            gpus = int(container["resources"]["limits"]["nvidia.com/gpu"])
        if words[0] == "torchrun":
            assert f"--nproc-per-node={gpus}" in words
        else:
            assert (told.local_rank, job.ranks, gpus) == (0, 1, 1)


def test_the_reserved_memory_of_the_nodes_is_what_the_kubelet_reserves() -> None:
    """Otherwise the Memory Manager's policy Static does not start."""
    (kubelet,) = _objects(_KUBELET)
    reserved = [kubelet[name]["memory"] for name in ("kubeReserved", "systemReserved")]
    reserved.append(kubelet["evictionHard"]["memory.available"])
    nodes = [each["limits"]["memory"] for each in kubelet["reservedMemory"]]
    assert sum(map(_bytes, nodes)) == sum(map(_bytes, reserved)) == 2148 << 20


def _bytes(quantity: str) -> int:
    return int(quantity[:-2]) * _UNITS[quantity[-2:]]
