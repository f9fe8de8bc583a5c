"""What is published: what an index asks of it, what it tells of what it carries, and that it can be made again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from cffi_build.long_description import with_absolute_links
from tests.packaging.tools import ROOT, new_environment, pip, run
from tests.require import require

TOPOLOGY = ROOT / "fixtures" / "topologies" / "dgx_a100_nps4.xml"


def in_metadata(wheel: Path, name: str) -> str:
    """Read a file of the wheel's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        [path] = [path for path in archive.namelist() if path.endswith(f".dist-info/{name}")]
        return archive.read(path).decode()


def digest(file: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the Python of an environment with what judges distributions and bills of materials."""
    return new_environment(
        tmp_path_factory.mktemp("checker") / "venv", "twine>=7", "cyclonedx-python-lib[json-validation]>=11"
    )


def test_the_index_takes_both(checker: Path, sdist: Path, wheel: Path) -> None:
    """`twine check --strict` has nothing to say: the long description renders, and the metadata are whole."""
    said = run([checker, "-m", "twine", "--no-color", "check", "--strict", sdist, wheel]).stdout
    print(said, end="")
    assert re.sub(r"\s", "", said).count(":PASSED") == 2, said


def test_links_of_the_long_description_lead_to_this_version(wheel: Path) -> None:
    """Each that is relative in README.md names that file where hwnuma lives, and no link is relative any more."""
    told = in_metadata(wheel, "METADATA")
    source = re.findall(r"^Project-URL: Source, (\S+)$", told, re.MULTILINE)[0]
    version = re.findall(r"^Version: (\S+)$", told, re.MULTILINE)[0]
    linked = re.findall(r"\]\(([^)\s]+)\)", told)
    assert [link for link in linked if "://" not in link and not link.startswith("#")] == []
    own = [link for link in linked if link.startswith(f"{source}/")]
    assert len(own) > 3
    for link in own:
        page, _, path = link.removeprefix(f"{source}/").partition(f"/v{version}/")
        assert page in {"blob", "raw"}, link
        assert (ROOT / path.partition("#")[0]).exists(), link


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[a](docs/x.md#y)", "[a](S/blob/v1/docs/x.md#y)"),
        ("![a](docs/x.svg)", "![a](S/raw/v1/docs/x.svg)"),
        ('<img alt="" src="./docs/x.png">', '<img alt="" src="S/raw/v1/docs/x.png">'),
        ('<a href="docs/">', '<a href="S/blob/v1/docs/">'),
        (
            "[a](#there) [b](https://x.org/y.svg) [c](mailto:a@b)",
            "[a](#there) [b](https://x.org/y.svg) [c](mailto:a@b)",
        ),
        ("plan[3](docs) is code", "plan[3](S/blob/v1/docs) is code"),
    ],
)
def test_absolute_links(written: str, shown: str) -> None:
    """Files of the tree, whatever shows them, and nothing else; code that looks like a link counts as one."""
    assert with_absolute_links(written, "S", "v1") == shown


def test_bill_of_materials(checker: Path, wheel: Path, tmp_path: Path) -> None:
    """It is CycloneDX by that project's own schema, and names hwloc, in the version that is loaded, and cffi."""
    told = in_metadata(wheel, "sboms/hwnuma.cdx.json")
    (tmp_path / "sbom.json").write_text(told)
    validate = (
        "import sys; from cyclonedx.schema import SchemaVersion; from cyclonedx.validation.json import JsonStrictValidator; "
        "print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read()))"
    )
    assert run([checker, "-c", validate, tmp_path / "sbom.json"]).stdout == "None\n"
    document = json.loads(told)
    hwloc, cffi = document["components"]
    [carried] = hwloc["evidence"]["occurrences"]
    print("the SBOM names", *(f"{each['name']} {each['version']} ({each['purl']})" for each in (hwloc, cffi)))
    with zipfile.ZipFile(wheel) as archive:
        library = archive.read(carried["location"])
    assert f"\0{hwloc['version']}\0".encode() in library
    assert hwloc["licenses"] == [{"license": {"id": "BSD-3-Clause"}}]
    assert cffi["name"] == "cffi"
    assert (
        document["metadata"]["component"]["version"] == in_metadata(wheel, "METADATA").split("Version: ")[2].split()[0]
    )


def test_a_wheel_of_the_systems_hwloc_names_none(builder: Path, source: Path, hwloc_2_9: Path, tmp_path: Path) -> None:
    """What is not carried is not in the bill of materials."""
    arguments = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source)
    pip(*arguments, python=builder, HWNUMA_HWLOC_PREFIX=hwloc_2_9)
    [wheel] = tmp_path.glob("*.whl")
    document = json.loads(in_metadata(wheel, "sboms/hwnuma.cdx.json"))
    assert [each["name"] for each in document["components"]] == ["cffi"]


def test_built_again_it_is_the_same(builder: Path, source: Path, wheel: Path, tmp_path: Path) -> None:
    """In another folder, later, with another umask and tools that lie elsewhere, the wheel is the same to the byte."""
    tree = tmp_path / "another" / "and deeper"
    shutil.copytree(source, tree, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    command = ["-m", "cffi_build.wheel", "--output", tmp_path / "again"]  # isolated: tools in a folder of pip's
    run(["sh", "-c", 'umask 077; exec "$0" "$@"', builder, *command], cwd=tree)
    [again] = (tmp_path / "again").iterdir()
    print(f"{digest(wheel)}  {wheel.name}\n{digest(again)}  {again.name}, built again")
    assert again.name == wheel.name
    assert differing_files(wheel, again) == []
    assert digest(again) == digest(wheel)


def differing_files(one: Path, other: Path) -> list[str]:
    """Name the files of two wheels that are not the same in both, for the message of a failure."""
    with zipfile.ZipFile(one) as first, zipfile.ZipFile(other) as second:
        entries = [{entry.filename: entry for entry in archive.infolist()} for archive in (first, second)]
        return [
            name
            for name in sorted({*entries[0], *entries[1]})
            if not all(name in part for part in entries)
            or (first.read(name), entries[0][name].date_time, entries[0][name].external_attr)
            != (second.read(name), entries[1][name].date_time, entries[1][name].external_attr)
        ]


def test_builds_offline(builder: Path, sdist: Path, tmp_path: Path) -> None:
    """With the packages present, the source distribution is built and installed where there is no network at all."""
    require(os.geteuid() == 0 and shutil.which("unshare"), "only root can take the network away from a process")
    python = tmp_path / "venv" / "bin" / "python"
    run([builder, "-m", "venv", "--system-site-packages", tmp_path / "venv"])
    [packages] = builder.parents[1].glob("lib/python3.*/site-packages")
    pip("install", "--quiet", "nvidia-ml-py", "tabulate", python=builder)
    install = [python, "-m", "pip", "install", "--no-index", "--no-build-isolation", sdist]
    path = os.pathsep.join([str(builder.parent), os.environ.get("PATH", os.defpath)])
    unshared = ["unshare", "--net", "--"]
    interfaces = run([*unshared, "cat", "/proc/net/dev"]).stdout.splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
    # The packages that are present are the builder's.
    said = run([*unshared, *install], PYTHONPATH=packages, PATH=path, PIP_FIND_LINKS="").stdout
    print(said.splitlines()[-1])
    assert said.splitlines()[-1].startswith("Successfully installed hwnuma-")
    smoke = [python, Path(__file__).with_name("smoke.py"), TOPOLOGY, "2.11"]
    print(run([*unshared, *smoke], cwd=tmp_path, PYTHONPATH=packages).stdout, end="")
