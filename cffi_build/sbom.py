"""What a wheel carries that is not hwnuma's: a software bill of materials, CycloneDX 1.6, in `sboms/` (PEP 770).

A scanner finds packages by their metadata, and a library inside of one not at all: this file tells it. It has neither a
time nor a random number in it, so that a wheel that is built again is the same.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

from cffi_build.carry import CARRIED_NAME
from cffi_build.find_hwloc import Hwloc, carried_package

FILE_NAME = "hwnuma.cdx.json"


def bill_of_materials(version: str, hwloc: Hwloc) -> str:
    """The document.

    Args:
        version: hwnuma's.
        hwloc: the libhwloc that is built against, and carried or not.

    Returns:
        JSON.
    """
    components = [_cffi()]
    if hwloc.to_carry is not None:
        components.insert(0, _hwloc(hwloc.to_carry))
    hwnuma = _component("hwnuma", version, f"pkg:pypi/hwnuma@{version}", "BSD-3-Clause")
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": hwnuma},
        "components": components,
        "dependencies": [{"ref": "hwnuma", "dependsOn": [component["bom-ref"] for component in components]}],
    }
    return json.dumps(document, indent=2) + "\n"


def _component(name: str, version: str, purl: str, licence: str) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": name,
        "name": name,
        "version": version,
        "licenses": [{"license": {"id": licence}}],
        "purl": purl,
    }


def _hwloc(library: Path) -> dict[str, Any]:
    """The carried library, as hwloc's own release names itself; where it was compiled is its ancestor."""
    package = carried_package()
    told = (library.parent / "pkgconfig" / "hwloc.pc").read_text()
    [release] = re.findall(r"^Version:\s*(\S+)", told, re.MULTILINE)
    origin = {
        "type": "library",
        "name": package.name,
        "version": package.version,
        "purl": f"pkg:pypi/{package.name}@{package.version}",
        # Of the file as that package has it: what it became is in the wheel's RECORD.
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(library.read_bytes()).hexdigest()}],
    }
    return {
        **_component("hwloc", release, f"pkg:github/open-mpi/hwloc@hwloc-{release}", "BSD-3-Clause"),
        "cpe": f"cpe:2.3:a:open-mpi:hwloc:{release}:*:*:*:*:*:*:*",
        "pedigree": {
            "ancestors": [origin],
            "notes": "SONAME, symbols and needed libraries were renamed or removed in the compiled file: see NOTICE",
        },
        "evidence": {"occurrences": [{"location": f"hwnuma/hwloc/{CARRIED_NAME}"}]},
    }


def _cffi() -> dict[str, Any]:
    """The part of cffi that is compiled into both extension modules."""
    told = importlib.metadata.metadata("cffi").json
    version, licence = str(told["version"]), str(told.get("license_expression", "MIT"))
    return {
        **_component("cffi", version, f"pkg:pypi/cffi@{version}", licence),
        "description": "what it writes into hwnuma.hwloc._hwloc and hwnuma.measure._kernels; the rest is a dependency",
    }
