"""Real processes to bind and to look at: Python code in a child, and one that waits to be looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without what a launcher or hwnuma may have set in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HWNUMA_", "LOCAL_", "OMP_"))}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return kept | {"PYTHONPATH": path} | more


def answer_of(code: str, *arguments: str, status: int = 0, timeout: float = 120, **environment: str) -> Any:
    """Run Python code in a process of its own and return the JSON that it prints last, with ``stderr`` beside it."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=False, env=clean_environment(**environment), timeout=timeout,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@contextmanager
def waiting(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command that prints a line when it is ready, wait for that, and end it at the end of the block."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_environment(**environment)
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == "ready"
        yield process
    finally:
        process.kill()
        process.communicate()


# A process of 50 threads besides its main one, of which every tenth pins itself to the CPU given; it goes on for every
# line that it reads, and tells the pinned threads' numbers.
FIFTY_THREADS = """
import json, os, sys, threading
done, started, pinned = threading.Event(), threading.Barrier(51), []
def thread(number):
    if number % 10 == 0:
        os.sched_setaffinity(0, {int(sys.argv[1])})
        pinned.append(threading.get_native_id())
    started.wait()
    done.wait()
threads = [threading.Thread(target=thread, args=(number,), daemon=True) for number in range(50)]
for each in threads:
    each.start()
started.wait()
"""
