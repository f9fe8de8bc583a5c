"""Malformed topology files: what ends a process that loads them ends one of their own, and is told in a sentence."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hwnuma import HwnumaError, Topology, TopologyFileError
from hwnuma.hwloc.library import RUNNING_VERSION
from tests.documents import DEADLY, GOOD
from tests.fuzz.targets import TARGETS
from tests.processes import answer_of, clean_environment
from tests.require import require
from tests.seccomp import can_deny


def _kinds_of_cpu(count: int) -> str:
    """A machine that is said to have so many kinds of CPU: libhwloc's time grows with the cube of their number."""
    sets = (f"0x{1 << index % 32:08x}" + ("," * (index // 32) + "0x0" if index >= 32 else "") for index in range(count))
    kinds = "".join(f'<cpukind cpuset="{text}" forced_efficiency="1"/>' for text in sets)
    return GOOD.replace("</topology>", f"{kinds}</topology>")


@pytest.mark.fault(
    "signal",
    "libhwloc dies of a malformed topology file",
    "gives an error that names the signal, in a process that goes on",
)
@pytest.mark.parametrize("what", list(DEADLY))
def test_what_libhwloc_dies_of_is_an_error(what: str) -> None:
    """The error says of which signal it died, and this process goes on; another version may refuse the file, or read it."""
    if RUNNING_VERSION >> 8 == 0x20B:
        with pytest.raises(TopologyFileError, match=r"dies \(of SIG(SEGV|ABRT)\) when it loads the XML given"):
            Topology.from_xml_buffer(DEADLY[what])
    assert TARGETS["xml"].check(DEADLY[what].encode()) in ("refused", "read")


@pytest.mark.fault("signal", "libhwloc dies of the file of HWLOC_XMLFILE", "gives the same error")
@pytest.mark.parametrize("components", ["", "xml", "xml,stop"])
def test_the_file_of_hwlocs_own_variable_is_tried_too(components: str, tmp_path: Path) -> None:
    """HWLOC_XMLFILE, with and without HWLOC_COMPONENTS: exec says what is wrong instead of dying."""
    (tmp_path / "bad.xml").write_text(DEADLY["a machine without complete_cpuset"])
    environment = clean_environment(HWLOC_XMLFILE=str(tmp_path / "bad.xml"))
    if components:
        environment["HWLOC_COMPONENTS"] = components
    done = subprocess.run(
        [sys.executable, "-m", "hwnuma", "exec", "--gpus", "none", "--ranks", "1", "--local-rank", "0", "--", "true"],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert str(tmp_path / "bad.xml") in line
    assert "HWLOC_XMLFILE" in line


@pytest.mark.fault("disk", "HWLOC_XMLFILE names a device, a folder or nothing", "gives one line that says what it is")
@pytest.mark.parametrize("file", ["/dev/zero", "/nowhere", "/"])
def test_the_file_of_hwlocs_own_variable_is_a_regular_one(file: str) -> None:
    """What cannot be read is an error; libhwloc would ask the kernel instead, without a word."""
    code = "from hwnuma import *\ntry:\n    Topology.from_this_system()\nexcept TopologyFileError as e:\n    print(repr(str(e)).replace(chr(39), chr(34)))"
    told, _ = answer_of(code, HWLOC_XMLFILE=file)
    assert f"HWLOC_XMLFILE, {file}:" in told


def test_components_without_xml_leave_the_file_unread() -> None:
    """As in libhwloc: HWLOC_COMPONENTS says what is asked, and then the file is of no meaning."""
    code = "import json\nfrom hwnuma import *\nprint(json.dumps(str(Topology.from_this_system().machine().cpuset)))"
    told, _ = answer_of(code, HWLOC_XMLFILE="/nowhere", HWLOC_COMPONENTS="linux,stop")
    assert told == Path("/sys/devices/system/cpu/online").read_text().strip()


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ('<topology version="2.0">' + "<object>" * 2000 + "</object>" * 2000 + "</topology>", "over 128 elements"),
        ('<?xml version="1.0"?> <topology>' + "<object>" * 2000 + "</object>" * 2000 + "</topology>", "over 128 elements"),
        (GOOD.replace('type="PU" os_index="5"', 'type="PU"'), r"no os_index, or one above 1048576 \(line \d+\)"),
        (GOOD.replace('type="PU" os_index="5"', 'type="PU" os_index="1048577"'), r"one above 1048576 \(line \d+\)"),
        (GOOD.replace('type="PU" os_index="5"', 'type="PU" os_index="4000000000"'), r"one above 1048576"),
        (GOOD.replace('type="PU" os_index="5"', 'type="PU" os_index="-1"'), r"one above 1048576"),
        (GOOD.replace('type="PU" os_index="5"', "type='PU' os_index='99999999999999999999'"), r"one above 1048576"),
        (GOOD.replace('type="NUMANode" os_index="0"', 'type="NUMANode" os_index="2000000"'), r"one above 1048576"),
        (GOOD.replace('cpuset="', 'cpuset="0x1' + ",0x00000000" * 40000 + ",", 1), r"beyond number 1048576 \(line 4\)"),
        (GOOD.replace(' SYSTEM "hwloc2.dtd"', '[<!ENTITY a "aaa"><!ENTITY b "&a;&a;">]'), "DOCTYPE has declarations"),
        (GOOD.replace(' SYSTEM "hwloc2.dtd"', ' SYSTEM "hwloc2.dtd" [<!ENTITY % a SYSTEM "/etc/passwd">]'), "declarations"),
        (GOOD.replace("<info ", "<Info ", 1), "elements or attributes that no hwloc topology has"),
        ("\udc80", "lone surrogates"),
        (GOOD.encode().replace(b"AuthenticAMD", b"Authentic\xffMD"), "not well-formed"),
        (GOOD.replace("AuthenticAMD", "Authentic\0MD"), "not well-formed"),
        (GOOD.replace("</topology>", ""), "not well-formed"),
        (GOOD.replace("</topology>", "</topology><topology/>"), "not well-formed"),
        (GOOD + " " * (64 << 20), "larger than 67108864 bytes"),
    ],
)  # fmt: skip
def test_what_no_machine_has_is_refused_before_libhwloc_sees_it(document: str | bytes, reason: str) -> None:
    """Depth, indexes, bitmaps, entities, names, bytes and size: each has its sentence."""
    with pytest.raises(TopologyFileError, match=reason) as caught:
        Topology.from_xml_buffer(document)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.fault("signal", "a topology file takes libhwloc minutes", "gives an error after four seconds")
@pytest.mark.slow  # four seconds of a CPU, as long as a file may take
def test_what_takes_too_long_is_given_up() -> None:
    """A file that would take libhwloc minutes is an error after seconds."""
    with pytest.raises(TopologyFileError, match="takes over 4 seconds to load"):
        Topology.from_xml_buffer(_kinds_of_cpu(16000))


@pytest.mark.fault(
    "memory", "a topology file makes libhwloc ask for 28 GB", "gives an error, and less than a gigabyte is taken"
)
def test_what_takes_too_much_memory_is_given_up() -> None:
    """A matrix that is said to have 28 GB of values: libhwloc does not get that memory, and the file is refused."""
    code = """
import json, resource
from hwnuma import Topology, TopologyFileError
from tests.documents import GOOD
values = '<indexes length="4">0 1 </indexes><u64values length="12">10 20 20 10 </u64values>'
matrix = f'<distances2 type="NUMANode" nbobjs="60000" kind="5" indexing="os">{values}</distances2>'
try:
    Topology.from_xml_buffer(GOOD.replace("</topology>", matrix + "</topology>"))
except TopologyFileError as error:
    print(json.dumps([str(error), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""
    (told, kilobytes), _ = answer_of(code)
    assert re.search(r"takes over \d+ MB to load|dies \(of SIG\w+\)|cannot import", told)
    assert kilobytes < 1 << 20


@pytest.mark.fault(
    "seccomp",
    "clone is denied while a file is to be tried",
    "gives one line that says what the process is for, and what to raise",
)
def test_no_process_to_try_a_file_in_is_told() -> None:
    """A container that denies clone: the error says what for, and what to do."""
    require(can_deny(), "the numbers of this machine's system calls are not known to tests/seccomp.py")
    code = """
import json
from hwnuma import HwlocError, Topology
from tests.seccomp import deny
from tests.documents import GOOD
deny("clone")
try:
    Topology.from_xml_buffer(GOOD)
except HwlocError as error:
    print(json.dumps([error.errno, error.strerror]))
"""
    (number, told), _ = answer_of(code)
    assert number == 1
    assert "cannot start a process to try the XML given in" in told


# A launcher that counts its own children's ends, in a handler and in a thread that waits for any child.
LAUNCHER = """
import json, os, signal, sys, threading
from hwnuma import Topology, TopologyFileError
from tests.documents import DEADLY, GOOD
handled, waited, done = [], [], threading.Event()
if sys.argv[1] == "ignore":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
else:
    signal.signal(signal.SIGCHLD, lambda *_: handled.append(1))
def wait():
    while not done.is_set():
        try:
            waited.append(os.waitpid(-1, 0))
        except ChildProcessError:
            done.wait(0.001)
thread = threading.Thread(target=wait)
thread.start()
loaded, died = 0, 0
for _ in range(15):
    loaded += len(Topology.from_xml_buffer(GOOD).machine().cores)
    try:
        Topology.from_xml_buffer(DEADLY["a machine without complete_cpuset"])
    except TopologyFileError:
        died += 1
done.set()
thread.join()
print(json.dumps([loaded, died, handled, waited]))
"""


@pytest.mark.fault(
    "fork",
    "a launcher waits for any child, or ignores SIGCHLD, while files are tried",
    "gives the launcher none of our children",
)
@pytest.mark.parametrize("disposition", ["handle", "ignore"])
def test_a_launcher_sees_no_child_of_ours(disposition: str) -> None:
    """Neither its handler of SIGCHLD nor its wait for any child meets the process that a file was tried in."""
    told, _ = answer_of(LAUNCHER, disposition)
    assert told == [15 * 128, 15, [], []]


# Many threads that allocate and load at once, in a process with a large heap and a larger address space.
THREADS = """
import json, mmap, threading
from hwnuma import Topology
from tests.documents import GOOD
heap, space = bytearray(200 << 20), mmap.mmap(-1, 1 << 40, mmap.MAP_PRIVATE | 0x4000)  # MAP_NORESERVE
done, found = threading.Event(), []
def allocate():
    while not done.is_set():
        [bytearray(size * 977) for size in range(100)]
def load():
    for _ in range(5):
        with Topology.from_xml_buffer(GOOD) as topology:
            found.append(len(topology.machine().cores))
others = [threading.Thread(target=allocate) for _ in range(2)]
loaders = [threading.Thread(target=load) for _ in range(4)]
for thread in others + loaders:
    thread.start()
for thread in loaders:
    thread.join()
done.set()
print(json.dumps(found))
"""


@pytest.mark.slow  # two threads fill memory meanwhile
@pytest.mark.fault("threads", "eight threads load files at once", "gives each its machine")
def test_many_threads_may_load_at_once_in_a_large_process() -> None:
    """None waits for a lock that another thread held, and the limits count from the size that the process has."""
    told, _ = answer_of(THREADS)
    assert told == [128] * 20


def test_libhwlocs_own_words_can_be_asked_for() -> None:
    """HWLOC_XML_VERBOSE=1, which an error message names, reaches standard error; without it there is nothing."""
    code = """
from hwnuma import Topology, TopologyFileError
from tests.documents import GOOD
try:
    Topology.from_xml_buffer(GOOD.replace('complete_nodeset=', 'no_such_thing=', 3))
except TopologyFileError:
    print(1)
"""
    assert answer_of(code) == (1, "")
    _, said = answer_of(code, HWLOC_XML_VERBOSE="1")
    assert "no_such_thing" in said


# Threads that use a topology while another closes it.
CLOSERS = """
import json, threading, time
from hwnuma import ClosedTopologyError, HwnumaError, Topology
from tests.documents import GOOD
rounds, wrong = 0, []
def use(topology):
    try:
        while True:
            topology._machine = topology._copied = None
            topology.machine(), topology.export_xml(), topology.is_this_system
    except ClosedTopologyError:
        pass
    except BaseException as error:
        wrong.append(repr(error))
while rounds < 20:
    topology = Topology.from_synthetic("pack:2 numa:2 l3:4 core:4 pu:2") if rounds % 4 else Topology.from_xml_buffer(GOOD)
    users = [threading.Thread(target=use, args=(topology,)) for _ in range(3)]
    for user in users:
        user.start()
    time.sleep(rounds % 7 / 1000)
    topology.close()
    for user in users:
        user.join()
    assert topology._handle is None
    rounds += 1
print(json.dumps(wrong))
"""


@pytest.mark.slow  # again and again
@pytest.mark.fault(
    "threads", "a thread closes a topology that another is using", "gives the other its answer; later use is an error"
)
def test_one_thread_may_close_what_another_uses() -> None:
    """The one that is in machine() or export_xml() comes to its end; the next call says that it is closed."""
    told, _ = answer_of(CLOSERS)
    assert told == []


@pytest.mark.fault("fork", "a process forks while a thread uses a topology", "gives a child that can close it")
def test_a_child_forked_meanwhile_can_close_it() -> None:
    """A lock that another thread of the parent held at the fork is not waited for."""
    code = """
import json, os, threading
from hwnuma import Topology
topology = Topology.from_synthetic("pu:2")
held, done = threading.Event(), threading.Event()
def hold():
    with topology._lock():
        held.set()
        done.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    topology.close()
    os._exit(7)
status = os.waitpid(child, 0)[1]
done.set()
thread.join()
print(json.dumps([os.WEXITSTATUS(status), "PU" in topology.export_xml()]))
"""
    told, _ = answer_of(code, timeout=20)
    assert told == [7, True]


def test_every_refusal_is_one_of_ours() -> None:
    """A file that is no file and a document that is no text are HwnumaErrors too."""
    for load, argument in ((Topology.from_xml_file, "a\0b"), (Topology.from_xml_buffer, "\udc80")):
        with pytest.raises(HwnumaError):
            load(argument)
