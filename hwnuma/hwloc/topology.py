"""Topology: the only door to libhwloc. It owns one loaded topology, copies it out, and binds through it."""

from __future__ import annotations

import os
from _thread import RLock

from hwnuma.errors import ClosedTopologyError, HwlocError, NotThisSystemError, TopologyFileError
from hwnuma.hwloc.files import decompressed, read_regular_file
from hwnuma.hwloc.library import RUNNING_VERSION, check, ffi, lib, new_bitmap, read_bitmap
from hwnuma.hwloc.self_binding import MEMBIND
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.options import MemoryPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any

    from hwnuma.model.machine import Machine

_EVERYTHING = int(lib.WANT_PCI | lib.WANT_NETWORK | lib.WANT_FIRST_CACHES)


def _new_handle(wanted: int = _EVERYTHING) -> Any:
    """Make a topology that is configured but not loaded."""
    handle = lib.hwnuma_new_topology(wanted)
    check(-1 if handle == ffi.NULL else 0, "hwloc_topology_init")
    return handle


def _loaded(handle: Any, source: str) -> Any:
    """Load a configured topology; where that fails it is freed."""
    try:
        check(lib.hwloc_topology_load(handle), f"hwloc_topology_load of {source}")
    except BaseException:
        lib.hwnuma_topology_destroy(handle)
        raise
    return handle


def _imported(document: bytes, source: str, wanted: int) -> Any:
    """Load a document that was tried already (`hwnuma.hwloc.trial`)."""
    handle = _new_handle(wanted)
    if lib.hwloc_topology_set_xmlbuffer(handle, document, len(document) + 1) < 0:
        code = ffi.errno
        lib.hwnuma_topology_destroy(handle)
        raise HwlocError(code, f"hwloc_topology_set_xmlbuffer of {source}: {os.strerror(code)}")
    return _loaded(handle, source)


def _discovered(wanted: int) -> Any:
    """Load this system; with first-level caches after all where some CPU has no other."""
    handle = _loaded(_new_handle(wanted), "this system")
    if wanted & lib.WANT_FIRST_CACHES or not lib.hwnuma_lacks_caches(handle):
        return handle
    lib.hwnuma_topology_destroy(handle)
    return _loaded(_new_handle(wanted | lib.WANT_FIRST_CACHES), "this system")


class _InUse:
    """What holds a topology open for a block: the loaded handle, which `Topology.close` does not free meanwhile."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology

    def __enter__(self) -> Any:
        return self._topology._begin_use()

    def __exit__(self, *_error: object) -> None:
        self._topology._end_use()


class Topology:
    """A topology as libhwloc loads it: this system's, a saved one, or a synthetic one.

    Use it as a context manager, or call `close`. What `machine` hands out stays valid afterwards. PCI devices and
    disallowed CPUs are kept, and no component of libhwloc that could wake a GPU takes part.

    Threads may share one: each method may be called from any of them at any time, `close` too. A thread that is in a
    method then ends it as if nothing were, and later calls raise `ClosedTopologyError`. What is bound is the calling
    thread.

    A saved topology is loaded in a process of its own first, since malformed ones end the process that loads them; only
    what libhwloc came through there is loaded here, and only when it is needed, which `machine` does not.
    """

    def __init__(
        self, handle: object, source: str, *, load: Callable[[], object] | None = None, copied: str | None = None
    ) -> None:
        """Take over a loaded handle; use the ``from_…`` constructors instead.

        Args:
            handle: a loaded ``hwloc_topology_t``; None to load it when it is first needed.
            source: what to call it, for people.
            load: gives the handle, where there is none yet.
            copied: what was copied out of it already.
        """
        self._handle: Any = handle
        self._load = load
        self._copied = copied
        self._machine: Machine | None = None
        self._source = source
        self._owner = os.getpid()
        self._is_closed = False
        self._users = 0
        # By process: in a forked child, a lock that another thread held would be locked for ever.
        self._locks: dict[int, RLock] = {}

    @classmethod
    def from_this_system(cls, *, pci: bool = True, network: bool = True, first_caches: bool = True) -> Topology:
        """Load the topology of the running system.

        libhwloc's own variables are honoured: with HWLOC_XMLFILE (and HWLOC_THISSYSTEM=1, to be allowed to bind) it
        reads a saved file instead of asking the kernel; with HWLOC_FSROOT, another sysfs tree.

        Args:
            pci: look at PCI devices, without which no GPU is known.
            network: look too at what the system makes of PCI devices, such as network interfaces.
            first_caches: look at first-level caches where the CPUs have higher ones too. `machine` is the same without.

        Raises:
            HwlocError: libhwloc failed.
            TopologyFileError: the file of HWLOC_XMLFILE, as for `from_xml_file`.
        """
        wanted = (lib.WANT_PCI if pci else 0) | (lib.WANT_NETWORK if pci and network else 0)
        file = _file_in_environment()
        if file is not None:
            document = read_regular_file(
                file, what="the topology file of HWLOC_XMLFILE,", most_bytes=lib.XML_MOST_BYTES
            )
            # Of a file, leaving out caches saves nothing.
            return cls._from_xml(document, f"{file} (HWLOC_XMLFILE)", "this system", wanted | lib.WANT_FIRST_CACHES)
        return cls(_discovered(wanted | (lib.WANT_FIRST_CACHES if first_caches else 0)), "this system")

    @classmethod
    def from_xml_file(cls, path: str | os.PathLike[str], *, needs_cpus: bool = True, network: bool = True) -> Topology:
        """Load a topology that `hwnuma capture` or `lstopo` saved as XML, perhaps compressed (gzip, xz) since.

        Args:
            path: the file.
            needs_cpus: refuse a file that has no PU, on which nothing can be planned; its devices can be looked at.
            network: read the network cards too: what planning CPUs does without.

        Raises:
            TopologyFileError: the file cannot be read, is no hwloc topology, is of a version that this libhwloc
                does not know, has no CPU, or is so malformed that libhwloc dies of it or takes too long or too much
                memory.
        """
        document = read_regular_file(path, what="the topology file", most_bytes=lib.XML_MOST_BYTES)
        document = decompressed(document, os.fspath(path), most_bytes=lib.XML_MOST_BYTES)
        wanted = _EVERYTHING if network else _EVERYTHING & ~lib.WANT_NETWORK
        return cls._from_xml(document, os.fspath(path), wanted=wanted, needs_cpus=needs_cpus)

    @classmethod
    def from_xml_buffer(
        cls, document: str | bytes, *, source: str = "the XML given", needs_cpus: bool = True
    ) -> Topology:
        """Load a topology from the content of such a file.

        Args:
            document: the content.
            source: what to call it, for people.
            needs_cpus: as `from_xml_file`.

        Raises:
            TopologyFileError: as `from_xml_file`.
        """
        try:
            content = document.encode() if isinstance(document, str) else document
        except UnicodeEncodeError:
            raise TopologyFileError("the XML given has lone surrogates in it, which are no characters") from None
        return cls._from_xml(content, source, needs_cpus=needs_cpus)

    @classmethod
    def _from_xml(
        cls,
        document: bytes,
        name: str,
        source: str | None = None,
        wanted: int = _EVERYTHING,
        *,
        needs_cpus: bool = True,
    ) -> Topology:
        # Here, since a process that binds itself reads no file.
        from hwnuma.hwloc.trial import load_apart
        from hwnuma.hwloc.xml import checked_xml

        content = checked_xml(document, name, RUNNING_VERSION, needs_cpus=needs_cpus)
        copied = load_apart(content, name, wanted)
        source = source or name
        return cls(None, source, load=lambda: _imported(content, name, wanted), copied=copied)

    @classmethod
    def from_synthetic(cls, description: str) -> Topology:
        """Make a topology from hwloc's synthetic description, such as ``pack:2 numa:2 l3:2 core:4 pu:2``.

        Raises:
            TopologyFileError: libhwloc does not accept the description.
        """
        handle = _new_handle()
        source = f"synthetic {description!r}"
        try:
            encoded = description.encode("ascii")
            if b"\0" in encoded or lib.hwloc_topology_set_synthetic(handle, encoded) < 0:
                raise ValueError
        except ValueError:
            lib.hwnuma_topology_destroy(handle)
            raise TopologyFileError(
                f"libhwloc does not accept the synthetic topology {description!r}: write levels from the outside in, "
                'such as "pack:2 numa:2 l3:2 core:4 pu:2" (hwloc manual, "Synthetic topologies")'
            ) from None
        return cls(_loaded(handle, source), source)

    @classmethod
    def for_binding(cls, nodeset: NodeSet | None = None, cpuset: CpuSet = CpuSet()) -> Topology:
        """Make a topology that says nothing of this system and can bind on it, in a fraction of a millisecond.

        How, and why that is enough, is beside the call (hwnuma.h). Its `machine` is not this machine.

        Args:
            nodeset: the NUMA nodes that a memory policy is to name.
            cpuset: the CPUs that `set_cpubind` is to name.

        Raises:
            HwlocError: libhwloc failed.
        """
        handle = lib.hwnuma_load_for_binding(new_bitmap(cpuset), new_bitmap(nodeset or NodeSet([0])))
        check(-1 if handle == ffi.NULL else 0, "hwloc_topology_load of a topology for binding only")
        return cls(handle, "a topology for binding only")

    def machine(self) -> Machine:
        """Copy the topology out into a frozen `Machine`, which outlives this object.

        Raises:
            ClosedTopologyError: the topology is closed.
            HwlocError: there is no memory for it.
        """
        from hwnuma.hwloc.copy_out import machine_of  # only here: who binds to a given place needs no machine

        if self._is_closed:
            raise self._closed_error()
        machine, copied = self._machine, self._copied  # looked at once: another thread may `annotate`
        if machine is None:
            if copied is None:
                with _InUse(self) as handle:
                    copied = self._copied = _copy_out(handle)
            machine = self._machine = machine_of(copied, self._source)
        return machine

    @property
    def is_this_system(self) -> bool:
        """Whether libhwloc says that this is the running system (hwloc_topology_is_thissystem)."""
        with _InUse(self) as handle:
            return bool(lib.hwloc_topology_is_thissystem(handle))

    def annotate(self, notes: Mapping[tuple[str, str], Mapping[str, str]]) -> None:
        """Note what libhwloc does not tell of network devices (hwloc_obj_add_info); call it before `machine`.

        Args:
            notes: info attributes by the class of ``/sys/class`` ("infiniband" or "net") and the name of the device, as
                `hwnuma.devices.nics.read_notes` finds them. What the topology says already stays.

        Raises:
            ClosedTopologyError: the topology is closed.
            HwlocError: libhwloc failed.
        """
        with _InUse(self) as handle:
            for (kind, device), values in notes.items():
                for name, value in values.items():
                    asked = (kind == "infiniband", os.fsencode(device), name.encode(), value.encode())
                    check(lib.hwnuma_add_info(handle, *asked), "hwloc_obj_add_info")
        self._machine = self._copied = None

    def memory_attributes(self, cpuset: CpuSet, node: int) -> tuple[int | None, int | None]:
        """What the firmware says of a node's memory as some CPUs see it (hwloc_memattr_get_value).

        Args:
            cpuset: the CPUs.
            node: the node's OS index.

        Returns:
            The bandwidth in MiB/s and the latency in ns; None of what is not told.
        """
        bitmap = new_bitmap(cpuset)
        with _InUse(self) as handle:
            found = [int(lib.hwnuma_memory_attribute(handle, which, bitmap, node)) for which in (0, 1)]
        bandwidth, latency = (None if value < 0 else value for value in found)
        return bandwidth, latency

    def export_xml(self) -> str:
        """Write the topology as XML (hwloc_topology_export_xmlbuffer), PCI devices and disallowed CPUs included.

        Raises:
            HwlocError: libhwloc failed.
        """
        buffer, length = ffi.new("char **"), ffi.new("int *")
        with _InUse(self) as handle:
            check(lib.hwloc_topology_export_xmlbuffer(handle, buffer, length, 0), "hwloc_topology_export_xmlbuffer")
            try:
                return bytes(ffi.string(buffer[0])).decode(errors="replace")
            finally:
                lib.hwloc_free_xmlbuffer(handle, buffer[0])

    def close(self) -> None:
        """Free the topology; a second call does nothing. In a forked child it is dropped and not freed.

        Where another thread is in one of its methods, it is freed when that ends.

        A child that frees what it shares copies every page of it, and libhwloc's components may have
        threads or handles there that exist in the parent only.
        """
        with self._lock():
            self._is_closed = True
            self._free_if_unused()

    # ---- the handle, and who uses it ---------------------------------------------------------------------------

    def _lock(self) -> RLock:
        """This process's lock; one that the thread that has it may take again, as a signal handler would."""
        return self._locks.setdefault(os.getpid(), RLock())

    def _begin_use(self) -> Any:
        with self._lock():
            self._users += 1  # ahead of the look: a signal handler may close it in between
            try:
                return self._open_handle()
            except BaseException:
                self._end_use()
                raise

    def _end_use(self) -> None:
        with self._lock():
            self._users -= 1
            self._free_if_unused()

    def _free_if_unused(self) -> None:
        if not self._is_closed or self._users or self._handle is None:
            return
        handle, self._handle = self._handle, None
        if self._owner == os.getpid():
            lib.hwnuma_topology_destroy(handle)

    def _open_handle(self) -> Any:
        if self._is_closed:
            raise self._closed_error()
        if self._handle is None and self._load is not None:
            self._handle, self._owner = self._load(), os.getpid()
        return self._handle

    def _closed_error(self) -> ClosedTopologyError:
        return ClosedTopologyError(f"the topology of {self._source} is closed: take its machine() before closing it")

    def __enter__(self) -> Topology:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_locks", None) is not None:
            self.close()

    def __repr__(self) -> str:
        return f"<Topology of {self._source}{', closed' if self._is_closed else ''}>"

    def __reduce__(self) -> str:
        raise TypeError("a Topology holds a libhwloc handle and cannot be pickled: pass on its machine()")

    # ---- binding -------------------------------------------------------------------------------------------

    def get_thread_cpubind(self, thread: int = 0) -> CpuSet:
        """Read the CPUs that a thread may run on (hwloc_linux_get_tid_cpubind).

        Args:
            thread: the kernel's thread id; 0 is the calling thread.

        Raises:
            HwlocError: with ESRCH if there is no such thread.
        """
        bitmap = new_bitmap()
        with _InUse(self) as handle:
            check(
                lib.hwloc_linux_get_tid_cpubind(_to_bind(handle, self._source), thread, bitmap),
                f"hwloc_linux_get_tid_cpubind of thread {thread}",
            )
        return read_bitmap(CpuSet, bitmap)

    def set_cpubind(self, cpuset: CpuSet) -> None:
        """Bind the calling thread (hwloc_set_cpubind, THREAD and STRICT).

        Args:
            cpuset: what to, CPUs of this topology; the kernel silently leaves out those that the cgroup does not allow.

        Raises:
            NotThisSystemError: the topology is another machine's.
            HwlocError: the kernel refused, or the topology has no such CPU.
        """
        flags = lib.HWLOC_CPUBIND_THREAD | lib.HWLOC_CPUBIND_STRICT
        with _InUse(self) as handle:
            check(
                lib.hwloc_set_cpubind(_to_bind(handle, self._source), new_bitmap(cpuset), flags),
                f"hwloc_set_cpubind to CPUs {cpuset or 'none'}",
            )

    def set_thread_cpubind(self, cpuset: CpuSet, thread: int = 0) -> None:
        """Bind one thread of any process (hwloc_linux_set_tid_cpubind).

        Args:
            cpuset: what to; the kernel silently leaves out CPUs that the thread's cgroup does not allow.
            thread: the kernel's thread id; 0 is the calling thread.

        Raises:
            NotThisSystemError: the topology is another machine's.
            HwlocError: the kernel refused; ESRCH if there is no such thread.
        """
        with _InUse(self) as handle:
            check(
                lib.hwloc_linux_set_tid_cpubind(_to_bind(handle, self._source), thread, new_bitmap(cpuset)),
                f"hwloc_linux_set_tid_cpubind of thread {thread} to CPUs {cpuset or 'none'}",
            )

    def set_membind(self, nodeset: NodeSet, policy: MemoryPolicy) -> None:
        """Set the calling thread's memory policy (hwloc_set_membind, THREAD): what is allocated from now on.

        Linux keeps a policy for each thread: threads and processes that this one starts inherit it, those that are
        there already do not. (hwloc's PROCESS is ENOSYS on Linux.)

        Args:
            nodeset: where memory is to come from; of no meaning with `MemoryPolicy.NONE`.
            policy: `MemoryPolicy.NONE` is the kernel's default: the node of the CPU that touches a page first.

        Raises:
            NotThisSystemError: the topology is another machine's.
            HwlocError: the kernel refused; EINVAL also if the topology has no such node.
        """
        kind, extra = MEMBIND[policy.value]
        flags = lib.HWLOC_MEMBIND_THREAD | lib.HWLOC_MEMBIND_BYNODESET | extra
        with _InUse(self) as handle:
            check(
                lib.hwloc_set_membind(_to_bind(handle, self._source), new_bitmap(nodeset), kind, flags),
                f"hwloc_set_membind, {policy}, to NUMA nodes {nodeset or 'none'}",
            )

    def set_area_membind(self, address: int, size: int, nodeset: NodeSet, policy: MemoryPolicy) -> None:
        """Set the memory policy of a part of this process's memory (hwloc_set_area_membind), whoever touches it.

        Args:
            address: where it begins, at a page's border.
            size: in bytes.
            nodeset: where its pages are to come from; those that it has already stay.
            policy: the policy.

        Raises:
            NotThisSystemError: the topology is another machine's.
            HwlocError: the kernel refused.
        """
        kind, extra = MEMBIND[policy.value]
        with _InUse(self) as handle:
            check(
                lib.hwloc_set_area_membind(
                    _to_bind(handle, self._source), ffi.cast("void *", address), size, new_bitmap(nodeset), kind,
                    lib.HWLOC_MEMBIND_BYNODESET | extra,
                ),
                f"hwloc_set_area_membind, {policy}, to NUMA nodes {nodeset or 'none'}",
            )  # fmt: skip

    def get_membind(self) -> tuple[frozenset[MemoryPolicy], NodeSet]:
        """Read the calling thread's memory policy (hwloc_get_membind, THREAD).

        Returns:
            What it may be, and its nodes. libhwloc does not tell preferred from bind; both are in the set then. With
            the kernel's default the nodes are all.

        Raises:
            NotThisSystemError: the topology is another machine's.
            HwlocError: the kernel refused.
        """
        bitmap, kind = new_bitmap(), ffi.new("hwloc_membind_policy_t *")
        flags = lib.HWLOC_MEMBIND_THREAD | lib.HWLOC_MEMBIND_BYNODESET
        with _InUse(self) as handle:
            check(lib.hwloc_get_membind(_to_bind(handle, self._source), bitmap, kind, flags), "hwloc_get_membind")
        if kind[0] in (lib.HWLOC_MEMBIND_DEFAULT, lib.HWLOC_MEMBIND_FIRSTTOUCH):
            return frozenset({MemoryPolicy.NONE}), read_bitmap(NodeSet, bitmap)
        policies = frozenset(policy for policy in MemoryPolicy if MEMBIND[policy.value][0] == kind[0])
        return policies, read_bitmap(NodeSet, bitmap)


def _copy_out(handle: Any) -> str:
    text = ffi.new("struct hwnuma_text *")
    check(lib.hwnuma_copy_out(handle, text), "copying the topology out")
    try:
        return bytes(ffi.buffer(text.bytes, text.used)).decode(errors="replace")
    finally:
        lib.free(text.bytes)


def _to_bind(handle: Any, source: str) -> Any:
    """The handle, if libhwloc would really bind: on a foreign topology it returns 0 and does nothing."""
    if not lib.hwloc_topology_is_thissystem(handle):
        raise NotThisSystemError(
            f"cannot bind through {source}: it does not describe the running system, and libhwloc would silently do "
            "nothing; load Topology.from_this_system(), or for a saved file of this very machine set HWLOC_XMLFILE and "
            "HWLOC_THISSYSTEM=1"
        )
    return handle


def _file_in_environment() -> str | None:
    """The file that libhwloc would read instead of asking the kernel, or None.

    HWLOC_COMPONENTS, where it is set, says what libhwloc asks: HWLOC_XMLFILE is of meaning then if it names "xml".
    """
    file = os.environ.get("HWLOC_XMLFILE")
    components = os.environ.get("HWLOC_COMPONENTS")
    if not file or (components is not None and "xml" not in components.split(",")):
        return None
    return "/dev/stdin" if file == "-" else file
