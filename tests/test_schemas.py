"""The JSON Schemas: what every command prints is as they say, to the key; and a reader of schema 1 reads on.

Strictly is without any key that the schema does not name: the schemas themselves let such pass, since keys may be added.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

import hwnuma
from hwnuma import CpuSet, OptionError
from hwnuma.cli.commands import COMMANDS
from hwnuma.cli.main import main
from hwnuma.model import contract
from hwnuma.model.digest import MachineDigest
from hwnuma.report.json_schema import COMMON, PRINTED_BY, json_schema, read_schema
from tests import fake_nvml, forked
from tests.captured_plans import MODES, OPTION_SETS, loaded_once, plans
from tests.conftest import ROOT, TOPOLOGIES, load_machine
from tests.every_machine import MACHINES, every_machine
from tests.fake_nvml import FakeGpu, FakeMig, FakeNvml
from tests.processes import clean_environment, waiting
from tests.require import require

OLD = sorted((Path(__file__).parent / "old_json").glob("*.json.gz"))
FILES = sorted(
    path.name.removesuffix(".schema.json") for path in (ROOT / "hwnuma/report/schemas").glob("*.schema.json")
)


def objects(part: Any) -> Iterator[dict[str, Any]]:
    """Every schema in a schema that says what keys an object has."""
    if isinstance(part, dict):
        if part.get("type") == "object" and "properties" in part:
            yield part
        part = list(part.values())
    for each in part if isinstance(part, list) else ():
        yield from objects(each)


def _validator(schema: dict[str, Any]) -> Draft202012Validator:
    """One that has looked for what the schema refers to, once: it would do that at each reference."""
    return Draft202012Validator(schema, registry=(Resource.from_contents(schema) @ Registry()).crawl())


@cache
def reader(name: str) -> Draft202012Validator:
    """What a reader has: the schema as it is given out."""
    schema = json_schema(name)
    Draft202012Validator.check_schema(schema)
    return _validator(schema)


@cache
def strict(name: str) -> Draft202012Validator:
    """The same, closed: no key passes that is not named."""
    schema = json_schema(name)
    for each in objects(schema):
        each["additionalProperties"] = False
    return _validator(schema)


def checked(name: str, data: Any) -> None:
    """Hold data against a schema, strictly."""
    errors = [f"{error.json_path}: {error.message[:300]}" for error in strict(name).iter_errors(data)]
    assert errors == []


def run(*words: str, status: int = 0, **more: str) -> Any:
    """Run the command line and give the JSON that it prints."""
    done = forked.hwnuma(words, clean_environment(**more))
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str]) -> Any:
    """Give the function that runs the command line in this process, and returns the JSON that it prints."""

    def call(*words: str) -> Any:
        main(list(words))
        return json.loads(capfd.readouterr().out)

    return call


# ---- the schemas themselves ---------------------------------------------------------------------------------------


def test_every_file_is_a_schema_of_something() -> None:
    """Each file is one that the table names, by its own name; each is a valid schema."""
    assert sorted([*PRINTED_BY, COMMON]) == FILES
    for name in FILES:
        schema = read_schema(name)
        assert (schema["$id"], schema["$schema"]) == (
            f"urn:hwnuma:schema:1:{name}",
            Draft202012Validator.META_SCHEMA["$id"],
        )
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", PRINTED_BY)
def test_a_schema_is_whole(name: str) -> None:
    """What one refers to comes along, and every key says what it is."""
    reader(name).is_valid({})  # a reference that leads nowhere raises
    schema = json_schema(name)
    known = {schema["$id"], *(each["$id"] for each in schema.get("$defs", {}).values() if "$id" in each)}
    for each in objects(schema):
        for key, told in each["properties"].items():
            target = told.get("$ref", "").partition("#")[0]
            assert "description" in told or target in {"", *known}, f"{key} of {name}"
            assert "description" in told or "$ref" in told, f"{key} of {name}"
        assert set(each["required"]) <= each["properties"].keys()


def test_unknown_keys_pass_a_reader() -> None:
    """Keys may be added to schema 1, at the top and below; a change of meaning is another schema, and does not."""
    made = {"schema": 1, "machines": 0, "classes": [], "broken": [{"file": "a", "error": "b", "later": 1}], "later": 2}
    assert reader("fleet").is_valid(made)
    assert not strict("fleet").is_valid(made)
    assert not reader("fleet").is_valid({**made, "schema": 2})
    assert not reader("fleet").is_valid({**made, "machines": "7"})


def test_an_unknown_name_is_refused() -> None:
    """It says which there are."""
    with pytest.raises(OptionError, match=r"there is no schema 'plans': there are plan, show"):
        hwnuma.json_schema("plans")


def test_the_command_prints_them(printed: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """``hwnuma schema NAME`` is `json_schema`; without a name, each is listed with what prints it."""
    for name in PRINTED_BY:
        assert printed("schema", name) == json_schema(name)
    main(["schema"])
    listed = capfd.readouterr().out
    assert all(f"{command}" in listed for command in PRINTED_BY.values())


def _arguments(name: str) -> set[str]:
    """The forms that a command has JSON in."""
    parser = argparse.ArgumentParser()
    COMMANDS[name].arguments(parser)
    choices = {
        choice for action in parser._actions if "--format" in action.option_strings for choice in action.choices or ()
    }
    return {
        *(["--format json"] if "json" in choices else []),
        *(flag for flag in ("--facts", "--watch", "--compare") if flag in parser._option_string_actions),
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_prints_json_has_a_schema(command: str) -> None:
    """A command with ``--format json`` or ``--facts``, and each option of it that has it print something else."""
    forms = _arguments(command)
    with_schema = " ".join(f"{words} " for words in PRINTED_BY.values() if words.startswith(f"hwnuma {command} "))
    # `plan --compare` prints tables alone.
    expected = {form for form in forms if not (command == "plan" and form == "--compare")}
    assert {form for form in expected if f" {form} " not in with_schema} == set()


def test_the_page_is_made_of_the_schemas() -> None:
    """The page is what docs/reference/json_page.py writes now."""
    made = subprocess.run(
        [sys.executable, "-c", "import json_page, sys; sys.stdout.write(json_page.page())"],
        capture_output=True, text=True, check=True, env=clean_environment(PYTHONPATH=f"{ROOT / 'docs' / 'reference'}:{ROOT}"), timeout=60,
    )  # fmt: skip
    assert (ROOT / "docs" / "reference" / "json.md").read_text() == made.stdout


# ---- types ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_name", "name", "definition"),
    [
        ("PlanDict", "plan", ""), ("BindingDict", "plan", "binding"), ("RailDict", "plan", "rail"),
        ("ErrorDict", "plan", "error"), ("OverlapDict", "plan", "overlap"), ("GpuDict", COMMON, "gpu"),
    ],
)  # fmt: skip
def test_types_and_schema_have_the_same_keys(type_name: str, name: str, definition: str) -> None:
    """The types of the contract and its schema name the same keys; what a type may lack, the schema does not require."""
    schema = read_schema(name)["$defs"][definition] if definition else read_schema(name)
    typed = getattr(contract, type_name)
    assert typed.__annotations__.keys() == schema["properties"].keys()
    assert set(schema["required"]) <= typed.__required_keys__
    # What came later is in every plan now, and in no old one.
    assert typed.__required_keys__ - set(schema["required"]) <= {"machine"}


# ---- what is printed -----------------------------------------------------------------------------------------------


def _plans(name: str, option_sets: Sequence[tuple[str, ...]], modes: Sequence[str] = MODES) -> list[Any]:
    """Plans for a machine as data, which is loaded once; three ranks where it has no GPUs."""
    file = TOPOLOGIES / f"{name}.xml"
    ranks = () if re.search(r"\[(10de|1002):", file.read_text()) else ("--gpus", "none", "--ranks", "3")
    with loaded_once():
        made = plans(("--topology", str(file), *ranks), option_sets, modes)
    return [{**json.loads(text), "topology": str(file)} for text in made.values() if text.startswith("{")]


@every_machine
def test_plans_of_every_machine(name: str) -> None:
    """In every mode; without options, and with one that makes errors; with GPUs, and where there are none without."""
    found = _plans(name, ((), ("--minimum-cores", "1000")))
    assert len(found) == 2 * len(MODES)
    for made in found:
        checked("plan", made)


@pytest.mark.parametrize("name", ["aws_p5en_48xlarge", "gb200_nvl72_tray", "xeon_sst_bf"])
def test_plans_of_every_option(name: str) -> None:
    """Where a node has several GPUs, rails, memory nodes, faster cores: all keys that there are."""
    found = _plans(name, (*OPTION_SETS, ("--prefer", "fast-cores", "--nics", "auto")), ("exclusive",))
    assert len(found) >= len(OPTION_SETS) - 2
    for made in found:
        checked("plan", made)


def test_a_plan_that_is_strict_lacks_nothing(printed: Any) -> None:
    """The strict check can fail: a key that is missing, one that is not known, a set that is none."""
    made = printed("plan", "--topology", str(TOPOLOGIES / "dgx_h100.xml"), "--format", "json")
    first = made["bindings"][0]
    for wrong in (
        {**first, "cores": -1},
        {**first, "more": 1},
        {**first, "cpuset": "0-"},
        {"local_rank": 0, "gpus": []},
    ):
        assert not strict("plan").is_valid({**made, "bindings": [wrong]})
    assert strict("plan").is_valid({**made, "bindings": [first]})


@pytest.mark.slow  # half a second a command
@pytest.mark.parametrize("command", ["show", "gpus", "topo"])
def test_looks_at_every_machine(command: str, printed: Any) -> None:
    """Machines with GPUs and without, and a synthetic one."""
    for name in MACHINES:
        file = str(TOPOLOGIES / f"{name}.xml")
        if command == "gpus" and "[10de:" not in Path(file).read_text():
            continue  # no JSON, but an error, where there is no GPU
        checked(command, printed(command, "--topology", file, "--format", "json"))
    if command != "gpus":
        checked(command, printed(command, "--synthetic", "pack:2 numa:2 l3:1 core:2 pu:2", "--format", "json"))


def test_this_machine_is_looked_at(printed: Any) -> None:
    """The running system is as the schemas say, too."""
    checked("show", printed("show", "--format", "json"))
    checked("topo", printed("topo", "--format", "json"))
    checked("plan", printed("plan", "--gpus", "none", "--ranks", "1", "--format", "json"))
    checked("facts", printed("capture", "--facts"))


def test_with_a_driver(tmp_path: Path) -> None:
    """GPUs, MIG instances, NVLinks and variables in plan, gpus, topo and facts; processes on GPUs in verify."""
    require(fake_nvml.compiler(), "the fake NVML is C and there is no compiler (CC, cc, gcc, clang)")
    cpus = CpuSet(os.sched_getaffinity(0))
    with waiting("sh", "-c", "echo ready; read line") as running:
        gone = 2**22 - 1
        gpus = [
            FakeGpu("0000:07:00.0", cpus=cpus, processes=[running.pid, gone], nvlinks={"0000:0b:00.0": 12}),
            FakeGpu("0000:0b:00.0", mig=[FakeMig(0, "MIG-f2b5fbbd-850e-51bb-8ffa-ac9fb48126da")]),
        ]
        driver = FakeNvml(gpus).variables(tmp_path)
        stated = ("--gpu-node", "0=0,1=0")
        checked("gpus", run("gpus", *stated, "--format", "json", **driver))
        plan = run("plan", *stated, "--mode", "exclusive", "--format", "json", **driver)
        checked("plan", plan)
        assert plan["bindings"][1]["gpus"][0]["uuid"].startswith("MIG-")
        facts = run("capture", "--facts", "--serials", CUDA_VISIBLE_DEVICES="0,1", **driver)
        checked("facts", facts)
        assert facts["gpus"][1]["mig"]["parent_uuid"] == gpus[1].uuid
        verified = run("verify", "--gpus", *stated, "--format", "json", **driver)
        checked("verify", verified)
        assert {row["pid"] for row in verified["processes"]} >= {running.pid}


def test_verified_processes_and_what_changes() -> None:
    """A process that is where it should be, one that is not, and each event of a watch until it ends."""
    cpu = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{cpu}]); print('ready', flush=True); input()"
    with waiting(sys.executable, "-c", code) as running:
        for words, status in ((("--cpus", str(cpu)), 0), (("--cpus", "8000", "--nodes", "0", "--memory", "bind"), 1)):
            made = run("verify", *words, "--format", "json", str(running.pid), status=status)
            checked("verify", made)
            assert made["processes"][0]["ok"] is (status == 0)
        command = [sys.executable, "-m", "hwnuma", "verify", "--watch", "0.05", "--cpus", "8000", "--format", "json"]
        with subprocess.Popen(
            [*command, str(running.pid)], stdout=subprocess.PIPE, text=True, env=clean_environment()
        ) as watching:
            assert watching.stdout is not None
            lines = [watching.stdout.readline()]
            running.kill()
            running.wait()
            lines += watching.stdout.read().splitlines()
        events = [json.loads(line) for line in lines]
        for event in events:
            checked("watch", event)
        assert {"watched", "thread_outside", "ended"} <= {event["event"] for event in events}


@pytest.mark.skipif("fleet" not in COMMANDS, reason="there is no hwnuma fleet yet")
def test_fleet_and_diff(tmp_path: Path) -> None:
    """Classes, their plans and a broken file; machines that differ, that are the same, and plans."""
    one, other = TOPOLOGIES / "epyc7763_nps1_smt1.xml", TOPOLOGIES / "dgx_a100_nps4.xml"
    for number in range(3):
        (tmp_path / f"node{number:03}.xml").write_bytes((other if number == 2 else one).read_bytes())
    (tmp_path / "node003.xml").write_text("no topology")
    done = subprocess.run(
        [sys.executable, "-m", "hwnuma", "fleet", str(tmp_path), "--format", "json"],
        capture_output=True, text=True, check=False, env=clean_environment(), timeout=120,
    )  # fmt: skip
    fleet = json.loads(done.stdout)
    checked("fleet", fleet)
    assert [(each["norm"], each["hosts"]) for each in fleet["classes"]] == [
        (True, ["node000", "node001"]),
        (False, ["node002"]),
    ]
    checked("diff", run("diff", str(one), str(other), "--format", "json", status=1))
    checked("diff", run("diff", str(one), str(one), "--format", "json"))


@pytest.mark.skipif("bench" not in COMMANDS, reason="there is no hwnuma bench yet")
def test_bench_and_compare() -> None:
    """The shortest run there is, of a machine that others may use; and a job in two modes."""
    checked("bench", run("bench", "--seconds", "0.1", "--memory", "64M", "--busy", "--format", "json"))
    if "--compare" in _arguments("bench"):
        words = ("bench", "--compare", "none,node", "--rounds", "2", "--ranks", "1", "--format", "json", "--", "true")
        checked("compare", run(*words, HWNUMA_GPUS="none"))


# ---- old files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", OLD, ids=lambda file: file.name.removesuffix(".json.gz"))
def test_what_an_earlier_version_printed_still_is_schema_1(file: Path) -> None:
    """As stored by hwnuma before captures and preferred CPUs: no schema asks for what came later."""
    name = file.name.partition("-")[0]
    for made in json.loads(gzip.decompress(file.read_bytes())):
        errors = [f"{error.json_path}: {error.message[:300]}" for error in strict(name).iter_errors(made)]
        assert errors == []


def test_there_are_old_files() -> None:
    """Of each kind that there was."""
    assert {file.name.partition("-")[0] for file in OLD} == {"plan", "gpus", "verify"}


# ---- the digest ----------------------------------------------------------------------------------------------------


@pytest.mark.slow  # every machine is shown
def test_the_machine_is_the_same_whatever_its_file_is_called(tmp_path: Path, printed: Any) -> None:
    """Elsewhere, compressed, from standard input: `machine` is the same; of another machine it is another."""
    original = TOPOLOGIES / "dgx_h100.xml"
    copy, packed = tmp_path / "copy.xml", tmp_path / "packed.xml.gz"
    copy.write_bytes(original.read_bytes())
    packed.write_bytes(gzip.compress(original.read_bytes()))
    digests = {
        printed(command, "--topology", str(file), "--format", "json")["machine"]
        for file in (original, copy, packed)
        for command in ("plan", "show", "gpus", "topo")
    }
    done = subprocess.run(
        [sys.executable, "-m", "hwnuma", "plan", "--topology", "-", "--format", "json"],
        input=original.read_bytes(), capture_output=True, check=True, env=clean_environment(), timeout=60,
    )  # fmt: skip
    assert digests == {json.loads(done.stdout)["machine"]}
    machines = [
        printed("show", "--topology", str(TOPOLOGIES / f"{name}.xml"), "--format", "json")["machine"]
        for name in MACHINES
    ]
    assert len(set(machines)) == len(MACHINES)


def test_a_digest_is_one_text_however_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python keeps its hashes elsewhere hashlib has the same one; a digest is found by its text in a dictionary."""
    machine = load_machine("dgx_h100")
    digest = MachineDigest(machine)
    monkeypatch.setitem(sys.modules, "_blake2", None)
    assert str(MachineDigest(machine)) == str(digest)
    assert {digest: 1}[MachineDigest(None, str(digest))] == 1
    assert repr(digest) == repr(str(digest))
    assert digest != MachineDigest(load_machine("dgx_a100_nps4"))
