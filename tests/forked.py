"""hwnuma's command line, and code that uses hwnuma, in processes that are forked of one which has imported all of it.

A Python that starts takes five times as long as what most commands then do. What depends on how it starts (variables of
Python's own, of its locale and of the dynamic loader, a standard output that is closed) is for real starts, which are made
here for commands with such variables. The fake driver's folder is one that the loader has to know: for that there is one
more process that forks.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

from tests.processes import ROOT, clean_environment

# How long a command may take, in seconds.
_TIMEOUT = 120
# What is read as a process starts, and so not by one that is forked.
_READ_AT_THE_START = ("PYTHON", "LC_", "LANG", "LD_", "HWLOC_", "COVERAGE_")
# Of these, what libhwloc reads for each topology anew.
_READ_LATER = {"HWLOC_FSROOT", "HWLOC_THISSYSTEM", "HWLOC_XMLFILE"}
_LOADER = "LD_LIBRARY_PATH"
_HERE, _AT_THE_START = dict(os.environ), clean_environment()


def _can_be_forked(environment: Mapping[str, str]) -> bool:
    """Whether nothing in the environment is read as a Python starts, but what is as for this one or the one that forks."""
    return all(
        text in (_HERE.get(name), _AT_THE_START.get(name))
        for name, text in environment.items()
        if name.startswith(_READ_AT_THE_START) and name not in _READ_LATER
        if not (name == _LOADER and text == _fake_drivers_folder())
    )


@cache
def _fake_drivers_folder() -> str | None:
    """What the fake driver's variables have the loader look into; None where it cannot be built."""
    from tests import fake_nvml  # not above: what forks commands has nothing of hwnuma.testing

    return str(fake_nvml.library().parent) if fake_nvml.compiler() else None


def hwnuma(
    words: Sequence[str], environment: Mapping[str, str], *, cwd: Path | None = None, output: IO[bytes] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line, with nothing on standard input.

    Args:
        words: its arguments.
        environment: all of it; with what a Python reads as it starts, one is started.
        cwd: the working folder; this process's by default.
        output: where standard output goes; by default it is returned.
    """
    cwd = cwd or Path.cwd()
    if not _can_be_forked(environment):
        return subprocess.run(
            [sys.executable, "-m", "hwnuma", *words],
            stdin=subprocess.DEVNULL, stdout=output or subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
            env=environment, cwd=cwd, timeout=_TIMEOUT,
        )  # fmt: skip
    status, *told = _forked({"words": list(words)}, environment, cwd, output)
    return subprocess.CompletedProcess(["hwnuma", *words], status, *(each.decode() for each in told))


def output_of(code: str, environment: Mapping[str, str]) -> bytes:
    """Run Python code in the repository's folder, where all of hwnuma is imported already, and return its output.

    Args:
        code: it may import what it likes.
        environment: all of it; nothing that a Python reads as it starts.
    """
    assert _can_be_forked(environment), "with these variables it takes a Python of its own"
    status, output, errors = _forked({"code": code}, environment, ROOT, None)
    assert status == 0, errors.decode()
    return output


def _forked(
    asked: Mapping[str, Any], environment: Mapping[str, str], cwd: Path, output: IO[bytes] | None
) -> tuple[int, bytes, bytes]:
    """Run something in a process of its own, and give its exit status and what it wrote."""
    told = {**asked, "environment": dict(environment), "cwd": str(cwd)}
    with tempfile.TemporaryFile() as request, tempfile.TemporaryFile() as written, tempfile.TemporaryFile() as errors:
        request.write(json.dumps(told).encode())
        request.seek(0)
        status = _status(environment.get(_LOADER), request, output or written, errors)
        return status, _content(written), _content(errors)


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _status(loader: str | None, *files: IO[bytes]) -> int:
    server = _server(loader)
    socket.send_fds(server, [b"!"], [file.fileno() for file in files])
    answer = server.recv(16)
    assert answer, "the process that forks has ended"
    return int(answer)


@cache
def _server(loader: str | None) -> socket.socket:
    """Start the process that forks, with such a path of the loader's; it ends with this one, as its socket is closed."""
    environment = {name: text for name, text in _AT_THE_START.items() if name != _LOADER}
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forked", str(theirs.fileno())],
        pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, cwd=ROOT,
        stdout=subprocess.PIPE,  # so that its children's Python never seeks in what is their standard output
        env=environment if loader is None else {**environment, _LOADER: loader},
    )  # fmt: skip
    theirs.close()
    ours.settimeout(_TIMEOUT)

    def end() -> None:
        ours.close()
        process.communicate()

    atexit.register(end)
    return ours


# ---- in the process that forks -------------------------------------------------------------------------------


def _serve(connection: socket.socket) -> None:
    while True:
        message, files, *_ = socket.recv_fds(connection, 1, 3)
        if not message:
            return
        child = os.fork()
        if child == 0:
            connection.close()
            _become(*files)
        for file in files:
            os.close(file)
        connection.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


def _become(request: int, output: int, errors: int) -> NoReturn:
    """Be what ``hwnuma``, or a Python with some code, is after its imports."""
    from hwnuma.cli.start import main

    with os.fdopen(request, "rb") as file:
        asked = json.load(file)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    status = 0
    try:
        if "code" in asked:
            exec(asked["code"], {"__name__": "__main__"})
        else:
            sys.argv = ["hwnuma", *asked["words"]]
            status = main()
    except SystemExit as ended:  # argparse, which has printed the help
        status = int(ended.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a Python that ends by itself looks at all objects once more, and so copies all pages


def _import_all() -> None:
    import hwnuma as package

    for module in pkgutil.walk_packages(package.__path__, "hwnuma."):
        if not module.name.startswith(("hwnuma.integrations", "hwnuma.testing", "hwnuma.__main__")):
            importlib.import_module(module.name)


if __name__ == "__main__":
    _import_all()
    gc.freeze()  # the children have no garbage of before to look through, and so no pages to copy for that
    _serve(socket.socket(fileno=int(sys.argv[1])))
