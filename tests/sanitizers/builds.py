"""What the tests here run, compiled from cffi_build into build/sanitizers; the libhwloc there is the setup's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILT = ROOT / "build" / "sanitizers"
HWLOC = BUILT / "hwloc"

# Of libhwloc, undefined behaviour is told and goes on (setup); of ours it is the end.
SANITIZED = ("-g", "-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
SETTINGS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:detect_leaks=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": f"print_stacktrace=1:suppressions={HERE / 'suppressions' / 'ubsan.supp'}",
}


def sources() -> list[str]:
    """The C files of the extension, but for what stands in for a library that is carried."""
    return [str(path) for path in sorted((ROOT / "cffi_build").glob("*.c")) if path.name != "pciaccess_absent.c"]


def _compile(*words: object) -> None:
    done = subprocess.run(
        ["clang", "-I", ROOT / "cffi_build", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def program(name: str, *more: str) -> Path:
    """Compile a C file of this folder with those of the extension, against the sanitized libhwloc."""
    made = BUILT / name
    library = ("-I", HWLOC / "include", HWLOC / "lib" / "libhwloc.a", "-lm", "-lpthread")
    _compile(*SANITIZED, *more, HERE / f"{name}.c", *sources(), *library, "-o", made)
    return made


def failing_program() -> Path:
    """Compile failing.c, and the extension's files with each call that it lets fail under that name."""
    calls = re.findall(r"^FAILING\([^,]+, (\w+),", (HERE / "failing.c").read_text(), re.MULTILINE)
    assert len(calls) > 10
    objects = [BUILT / f"failing-{Path(source).stem}.o" for source in sources()]
    names = [f"-D{call}=failing_{call}" for call in calls]
    for source, made in zip(sources(), objects, strict=True):
        _compile(*SANITIZED, *names, "-I", HWLOC / "include", "-c", source, "-o", made)
    made = BUILT / "failing"
    library = ("-I", HWLOC / "include", HWLOC / "lib" / "libhwloc.a", "-lm", "-lpthread")
    _compile(*SANITIZED, HERE / "failing.c", *objects, *library, "-o", made)
    return made


def fuzzing_program() -> Path:
    """Compile the libFuzzer harness; bind_self.c is within it."""
    made = BUILT / "fuzz_shims"
    own = [source for source in sources() if Path(source).name in ("look_at_xml.c", "fork_safe.c")]
    library = ("-I", HWLOC / "include", HWLOC / "lib" / "libhwloc.a", "-lm", "-lpthread")
    _compile("-fsanitize=fuzzer", *SANITIZED, HERE / "fuzz_shims.c", *own, *library, "-o", made)
    return made


def plain_program() -> Path:
    """Compile exercise.c for valgrind (3.19 does not read DWARF 5): unsanitized, against Debian's own libhwloc."""
    made = BUILT / "exercise-plain"
    _compile("-gdwarf-4", "-O1", HERE / "exercise.c", *sources(), "-lhwloc", "-lpthread", "-o", made)
    return made


def extension() -> Path:
    """Build and install hwnuma, with all its extension modules, sanitized; the folder to put on Python's path."""
    target = BUILT / "python"
    flags = " ".join(SANITIZED)
    environment = os.environ | {
        "CC": "clang",
        "CFLAGS": flags,
        "LDSHARED": f"clang -shared -shared-libasan {flags}",
        "HWNUMA_HWLOC_PREFIX": str(HWLOC),
    }
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--upgrade",
        "--target",
        str(target),
        str(ROOT),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def runtime() -> str:
    """AddressSanitizer's library, which has to be loaded ahead of all others."""
    name = f"libclang_rt.asan-{os.uname().machine}.so"
    return subprocess.run(
        ["clang", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
