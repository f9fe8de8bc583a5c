"""Mutate saved topologies, load each, and plan on what is read: ``python -m tests.fuzz_xml --mutations 200000 --seed 1``.

Nothing that a file says may end the process, raise anything but a HwnumaError, take long or much memory, or lead to a plan
that breaks its promises. A worker process does the loading, so that one that dies is counted, with the mutation that
killed it, and the rest goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from hwnuma import (
    AffinityMode,
    GpuNotFoundError,
    HwnumaError,
    Machine,
    NumaOptions,
    PlanError,
    Topology,
    TopologyGpus,
    plan,
)
from tests.conftest import TOPOLOGIES

MOST_SECONDS, MOST_BYTES = 5.0, 1 << 30

# Numbers and bitmaps that some code somewhere does not expect.
_STRANGE = [
    *(b"", b"0", b"-1", b"1", b"4294967295", b"4294967296", b"99999999999999999999", b"2147483647", b"1048576", b"NaN"),
    *(b"0x", b"0x0", b"0xf...f", b"0xffffffff", b"0x1,,,,,,,,,,,,", b",", b"0x00000001,0x", b"PU", b"Machine", b"L3Cache"),
    *(b"&lt;&amp;", b"\xc3\xa4", b"\xff", b" ", b"0000:00:00.0", b"ffffffff:ff:ff.f", b"1-2-3", b"%s%n"),
]  # fmt: skip

# What libhwloc knows and the fixtures do not all have.
_ELEMENTS = [
    b"<info/>",
    b'<info name="Backend"/>',
    b'<memattr name="Capacity" flags="1"><memattr_value target_obj_gp_index="4" target_obj_type="NUMANode" value="5"/></memattr>',
    b'<memattr name="Bandwidth" flags="5"><memattr_value target_obj_type="NUMANode" value="5"/></memattr>',
    b'<cpukind cpuset="0x3" forced_efficiency="1"/>',
    b"<cpukind/>",
    b'<distances2 type="NUMANode" nbobjs="2" kind="5" indexing="os"><indexes length="4">0 1 </indexes><u64values length="12">10 20 20 10 </u64values></distances2>',
    b'<object type="PU" os_index="0"/>',
    b'<object type="NUMANode" os_index="7" cpuset="0x1" nodeset="0x80"/>',
    b'<object type="PCIDev" pci_busid="0000:00:00.0" pci_type="0302 [10de:20b2]"/>',
    b'<object type="Misc"/>',
    b'<userdata length="4">abcd</userdata>',
    b"<support name='x'/>",
]

_ATTRIBUTE = re.compile(rb' ([a-z_0-9]+)="([^"]*)"')
_TAG = re.compile(rb"<[^>]*>")


def _spans(pattern: re.Pattern[bytes], document: bytes, chance: random.Random) -> re.Match[bytes] | None:
    """Some match of a pattern, from a place in the document onwards."""
    return pattern.search(document, chance.randrange(len(document))) or pattern.search(document)


def _change_bytes(document: bytes, chance: random.Random) -> bytes:
    changed = bytearray(document)
    for _ in range(chance.choice((1, 1, 2, 8))):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _cut(document: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(document))
    return document[:start] + document[start + chance.choice((1, 10, 100, 1000, len(document))) :]


def _repeat(document: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(document))
    piece = document[start : start + chance.choice((10, 100, 1000))]
    return document[:start] + piece * chance.choice((2, 10)) + document[start:]


def _drop_attribute(document: bytes, chance: random.Random) -> bytes:
    found = _spans(_ATTRIBUTE, document, chance)
    return document if found is None else document[: found.start()] + document[found.end() :]


def _change_attribute(document: bytes, chance: random.Random) -> bytes:
    found = _spans(_ATTRIBUTE, document, chance)
    if found is None:
        return document
    value = chance.choice([*_STRANGE, found[2] + b"0", found[2][:-1], found[2][::-1]])
    return document[: found.start(2)] + value + document[found.end(2) :]


def _exchange_values(document: bytes, chance: random.Random) -> bytes:
    """Give an attribute the value that one of the same name has elsewhere."""
    found = _spans(_ATTRIBUTE, document, chance)
    if found is None:
        return document
    other = _spans(re.compile(rb" (" + found[1] + rb')="([^"]*)"'), document, chance)
    return document if other is None else document[: found.start(2)] + other[2] + document[found.end(2) :]


def _drop_tag(document: bytes, chance: random.Random) -> bytes:
    found = _spans(_TAG, document, chance)
    return document if found is None else document[: found.start()] + document[found.end() :]


def _repeat_tag(document: bytes, chance: random.Random) -> bytes:
    found = _spans(_TAG, document, chance)
    return document if found is None else document[: found.end()] + found[0] + document[found.end() :]


def _add_element(document: bytes, chance: random.Random) -> bytes:
    found = _spans(_TAG, document, chance)
    return document if found is None else document[: found.end()] + chance.choice(_ELEMENTS) + document[found.end() :]


def _append_element(document: bytes, chance: random.Random) -> bytes:
    return document.replace(b"</topology>", chance.choice(_ELEMENTS) + b"</topology>")


_MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    _change_bytes, _cut, _repeat, _drop_attribute, _drop_attribute, _change_attribute, _change_attribute, _change_attribute,
    _exchange_values, _exchange_values, _drop_tag, _repeat_tag, _add_element, _append_element,
]  # fmt: skip


def mutated(seed: int, number: int) -> bytes:
    """The document of a mutation: the same for the same seed and number, on any machine."""
    chance = random.Random(f"{seed} {number}")
    document = chance.choice(sorted(TOPOLOGIES.glob("*.xml"))).read_bytes()
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        document = chance.choice(_MUTATIONS)(document, chance) or b" "
    return document


def broken_promise(machine: Machine) -> str:
    """What a plan on this machine says that no plan may say, or "": without GPUs, with those of the machine, and with less."""
    try:
        found = TopologyGpus(machine).gpus()
    except GpuNotFoundError:
        found = ()
    for mode in AffinityMode:
        for options, gpus in (
            (NumaOptions(mode), ()),
            (NumaOptions(mode), found),
            (NumaOptions(mode, reserve_first_cores=True), ()),
        ):
            made = plan(machine, gpus, options, ranks=None if gpus else 2)
            placed = [binding for binding in made if binding.error is None]
            if any(not binding.cpuset or not binding.cpuset <= machine.allowed_cpuset for binding in placed):
                return f"{options}: CPUs that are not allowed, or none"
            if mode is AffinityMode.EXCLUSIVE and any(made.overlaps()):
                return f"{options}: shares that overlap"
    return ""


def outcome(document: bytes) -> str:
    """Load a document and plan on it; what came of it, in a word or a sentence."""
    try:
        with Topology.from_xml_buffer(document) as topology:
            machine = topology.machine()
        problem = broken_promise(machine)
    except PlanError:
        return "not planned"
    except HwnumaError:
        return "refused"
    except Exception as error:  # noqa: BLE001 -- this is what is looked for
        return f"bare exception {type(error).__name__}: {error}"
    return f"broken promise: {problem}" if problem else "planned"


def _largest_memory() -> int:
    """The largest resident memory of this process and of those that it waited for, in bytes."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(each).ru_maxrss for each in who) * 1024


def _seconds() -> float:
    """The CPU time of this process and of those that it waited for: on a busy machine a clock's says nothing."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def work(seed: int, first: int, last: int) -> None:
    """Be the worker: print one line of JSON for each mutation."""
    for number in range(first, last):
        document = mutated(seed, number)
        started = _seconds()
        word = outcome(document)
        seconds = _seconds() - started
        if seconds > MOST_SECONDS:
            word = f"over time: {seconds:.1f} s, then {word}"
        if _largest_memory() > MOST_BYTES:
            word = f"over memory: {_largest_memory() >> 20} MB, then {word}"
        print(json.dumps([number, word]), flush=True)


def outcomes(seed: int, mutations: int) -> Iterator[tuple[int, str]]:
    """The outcome of each mutation, by its number; a worker that dies is replaced."""
    first = 0
    while first < mutations:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz_xml", "--seed", str(seed), "--work", str(first), str(mutations)],
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        assert worker.stdout is not None
        for line in worker.stdout:
            number, word = json.loads(line)
            first = number + 1
            yield number, word
            if word.startswith("over memory"):  # a process's largest never shrinks
                worker.kill()
                break
        else:
            if worker.wait() != 0:
                yield first, f"the process ended with {worker.returncode}"
                first += 1
        worker.communicate()


def main() -> int:
    """Run, print what came of it and each mutation that went wrong; the exit status says whether any did."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_xml", description=__doc__)
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=int, nargs=2, metavar=("FIRST", "LAST"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.seed, *arguments.work)
        return 0
    counts: Counter[str] = Counter()
    started = time.monotonic()
    for number, word in outcomes(arguments.seed, arguments.mutations):
        counts[word.partition(":")[0]] += 1
        if word not in ("planned", "not planned", "refused"):
            print(f"mutation {number} of seed {arguments.seed}: {word}", flush=True)
    wrong = sum(counts.values()) - counts["planned"] - counts["not planned"] - counts["refused"]
    print(f"{sum(counts.values())} mutations in {time.monotonic() - started:.0f} s: {dict(counts)}; {wrong} went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
