"""hwnuma's command line in processes that are forked of one which has imported all of it.

A Python that starts takes five times as long as what most commands then do. What depends on how it starts (variables of
Python's own, of its locale and of the dynamic loader, a standard output that is closed) is for real starts, and are made there.
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
from typing import BinaryIO, NoReturn

from tests.processes import ROOT, clean_environment

# How long a command may take, in seconds.
_TIMEOUT = 120
# What is read as a process starts, and so not by one that is forked.
_READ_AT_THE_START = ("PYTHON", "LC_", "LANG", "LD_", "HWLOC_", "COVERAGE_")
_HERE, _AT_THE_START = dict(os.environ), clean_environment()


def _can_be_forked(environment: Mapping[str, str]) -> bool:
    """Whether nothing in the environment is read as a Python starts, but what is as for this one or the one that forks."""
    return all(
        text in (_HERE.get(name), _AT_THE_START.get(name))
        for name, text in environment.items()
        if name.startswith(_READ_AT_THE_START)
    )


def hwnuma(
    words: Sequence[str], environment: Mapping[str, str], *, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line, with nothing on standard input.

    Args:
        words: its arguments.
        environment: all of it; with what a Python reads as it starts, one is started.
        cwd: the working folder; this process's by default.
    """
    cwd = cwd or Path.cwd()
    if not _can_be_forked(environment):
        return subprocess.run(
            [sys.executable, "-m", "hwnuma", *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment, cwd=cwd, timeout=_TIMEOUT,
        )  # fmt: skip
    asked = {"words": list(words), "environment": dict(environment), "cwd": str(cwd)}
    with tempfile.TemporaryFile() as request, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        request.write(json.dumps(asked).encode())
        request.seek(0)
        status = _status(request, output, errors)
        told = [_content(file) for file in (output, errors)]
    return subprocess.CompletedProcess(["hwnuma", *words], status, *told)


def _content(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode()


def _status(*files: BinaryIO) -> int:
    server = _server()
    socket.send_fds(server, [b"!"], [file.fileno() for file in files])
    answer = server.recv(16)
    assert answer, "the process that forks has ended"
    return int(answer)


@cache
def _server() -> socket.socket:
    """Start the process that forks; it ends with this one, when its socket is closed."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forked", str(theirs.fileno())],
        pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, cwd=ROOT, env=_AT_THE_START,
    )  # fmt: skip
    theirs.close()
    ours.settimeout(_TIMEOUT)

    def end() -> None:
        ours.close()
        process.wait()

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
    """Be what ``hwnuma`` is after its imports."""
    from hwnuma.cli.start import main

    with os.fdopen(request, "rb") as file:
        asked = json.load(file)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["hwnuma", *asked["words"]]
    try:
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
