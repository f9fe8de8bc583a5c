"""Topology: the only door to libhwloc. It owns one loaded topology, copies it out, and binds through it."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

from hwnuma.errors import ClosedTopologyError, HwlocError, NotThisSystemError, TopologyFileError
from hwnuma.hwloc.copy_out import copy_machine
from hwnuma.hwloc.files import read_regular_file
from hwnuma.hwloc.library import RUNNING_VERSION, check, ffi, lib, new_bitmap, read_bitmap, version_text
from hwnuma.hwloc.self_binding import MEMBIND
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.machine import Machine
from hwnuma.model.options import MemoryPolicy

# Never loaded. The first line's components open GPU drivers, which wakes GPUs or creates contexts on them
# (hwloc FAQ, "How do I avoid hwloc touching GPUs"). "pci" is not needed: "linux" reads PCI devices from sysfs, as
# torch does. "x86" moves the calling thread over all CPUs to ask each, isolated ones too, and says what sysfs says.
_UNWANTED_COMPONENTS = ("cuda", "nvml", "opencl", "gl", "rsmi", "levelzero", "pci", "x86")

# lstopo writes about 600 bytes for each CPU, and a machine of 8,192 CPUs and as many devices in 10 MB.
_MOST_BYTES = 64 << 20


def _new_handle() -> Any:
    """Make a topology that is configured but not loaded."""
    box = ffi.new("hwloc_topology_t *")
    check(lib.hwloc_topology_init(box), "hwloc_topology_init")
    handle = box[0]
    try:
        check(
            lib.hwloc_topology_set_io_types_filter(handle, lib.HWLOC_TYPE_FILTER_KEEP_ALL),
            "hwloc_topology_set_io_types_filter",
        )
        # Disallowed CPUs stay, so that it can be said why a GPU has none.
        flags = lib.HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED
        check(lib.hwloc_topology_set_flags(handle, flags), "hwloc_topology_set_flags")
        for component in _UNWANTED_COMPONENTS:
            # One that this libhwloc was built without is refused, and that is as good.
            lib.hwloc_topology_set_components(handle, lib.HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, component.encode())
    except BaseException:
        lib.hwloc_topology_destroy(handle)
        raise
    return handle


class Topology:
    """A topology as libhwloc loads it: this system's, a saved one, or a synthetic one.

    Use it as a context manager, or call `close`. What `machine` hands out stays valid afterwards. PCI devices and
    disallowed CPUs are kept, and no component of libhwloc that could wake a GPU takes part.
    """

    def __init__(self, handle: object, source: str) -> None:
        """Take over a loaded handle; use the ``from_…`` constructors instead."""
        self._handle: Any = handle
        self._machine: Machine | None = None
        self._source = source
        self._owner = os.getpid()

    @classmethod
    def _loaded(cls, handle: Any, source: str) -> Topology:
        """Load a configured handle, and take it over; where that fails it is freed."""
        try:
            check(lib.hwloc_topology_load(handle), f"hwloc_topology_load of {source}")
        except BaseException:
            lib.hwloc_topology_destroy(handle)
            raise
        return cls(handle, source)

    @classmethod
    def from_this_system(cls) -> Topology:
        """Load the topology of the running system.

        libhwloc's own variables are honoured: with HWLOC_XMLFILE (and HWLOC_THISSYSTEM=1, to be allowed to bind) it
        reads a saved file instead of asking the kernel; with HWLOC_FSROOT, another sysfs tree.

        Raises:
            HwlocError: libhwloc failed.
        """
        return cls._loaded(_new_handle(), "this system")

    @classmethod
    def from_xml_file(cls, path: str | os.PathLike[str]) -> Topology:
        """Load a topology that `hwnuma capture` or `lstopo` saved as XML.

        Raises:
            TopologyFileError: the file cannot be read, is no hwloc topology, is of a version that this libhwloc
                does not know, or has no CPU.
        """
        document = read_regular_file(path, what="the topology file", most_bytes=_MOST_BYTES)
        return cls._from_xml(document, os.fspath(path))

    @classmethod
    def from_xml_buffer(cls, document: str | bytes) -> Topology:
        """Load a topology from the content of such a file.

        Raises:
            TopologyFileError: as `from_xml_file`.
        """
        return cls._from_xml(document.encode() if isinstance(document, str) else document, "the XML given")

    @classmethod
    def _from_xml(cls, document: bytes, source: str) -> Topology:
        # Here, since it costs half of `import hwnuma`, and a process that binds itself reads no file.
        from hwnuma.hwloc.xml import normalized_xml

        content = normalized_xml(document, source, RUNNING_VERSION)
        handle = _new_handle()
        # libhwloc counts the terminating zero byte.
        if lib.hwloc_topology_set_xmlbuffer(handle, content, len(content) + 1) < 0:
            lib.hwloc_topology_destroy(handle)
            raise TopologyFileError(_refusal(source))
        try:
            return cls._loaded(handle, source)
        except HwlocError:
            raise TopologyFileError(_refusal(source)) from None

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
            lib.hwloc_topology_destroy(handle)
            raise TopologyFileError(
                f"libhwloc does not accept the synthetic topology {description!r}: write levels from the outside in, "
                'such as "pack:2 numa:2 l3:2 core:4 pu:2" (hwloc manual, "Synthetic topologies")'
            ) from None
        return cls._loaded(handle, source)

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
        """
        handle = self._open_handle()
        if self._machine is None:
            self._machine = copy_machine(handle, self._source)
        return self._machine

    @property
    def is_this_system(self) -> bool:
        """Whether libhwloc says that this is the running system (hwloc_topology_is_thissystem)."""
        return bool(lib.hwloc_topology_is_thissystem(self._open_handle()))

    def export_xml(self) -> str:
        """Write the topology as XML (hwloc_topology_export_xmlbuffer), PCI devices and disallowed CPUs included.

        Raises:
            HwlocError: libhwloc failed.
        """
        handle = self._open_handle()
        buffer, length = ffi.new("char **"), ffi.new("int *")
        check(lib.hwloc_topology_export_xmlbuffer(handle, buffer, length, 0), "hwloc_topology_export_xmlbuffer")
        try:
            return bytes(ffi.string(buffer[0])).decode()
        finally:
            lib.hwloc_free_xmlbuffer(handle, buffer[0])

    def close(self) -> None:
        """Free the topology; a second call does nothing. In a forked child it is dropped and not freed.

        A child that frees what it shares copies every page of it, and libhwloc's components may have
        threads or handles there that exist in the parent only.
        """
        handle, self._handle = self._handle, None
        if handle is not None and self._owner == os.getpid():
            lib.hwloc_topology_destroy(handle)

    def __enter__(self) -> Topology:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()

    def __repr__(self) -> str:
        return f"<Topology of {self._source}{', closed' if self._handle is None else ''}>"

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
        check(
            lib.hwloc_linux_get_tid_cpubind(self._handle_to_bind(), thread, bitmap),
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
        check(
            lib.hwloc_set_cpubind(self._handle_to_bind(), new_bitmap(cpuset), flags),
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
        check(
            lib.hwloc_linux_set_tid_cpubind(self._handle_to_bind(), thread, new_bitmap(cpuset)),
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
        check(
            lib.hwloc_set_membind(self._handle_to_bind(), new_bitmap(nodeset), kind, flags),
            f"hwloc_set_membind, {policy}, to NUMA nodes {nodeset or 'none'}",
        )

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
        check(lib.hwloc_get_membind(self._handle_to_bind(), bitmap, kind, flags), "hwloc_get_membind")
        if kind[0] in (lib.HWLOC_MEMBIND_DEFAULT, lib.HWLOC_MEMBIND_FIRSTTOUCH):
            return frozenset({MemoryPolicy.NONE}), read_bitmap(NodeSet, bitmap)
        policies = frozenset(policy for policy in MemoryPolicy if MEMBIND[policy.value][0] == kind[0])
        return policies, read_bitmap(NodeSet, bitmap)

    def _open_handle(self) -> Any:
        if self._handle is None:
            raise ClosedTopologyError(f"the topology of {self._source} is closed: take its machine() before closing it")
        return self._handle

    def _handle_to_bind(self) -> Any:
        """The handle, if libhwloc would really bind: on a foreign topology it returns 0 and does nothing."""
        handle = self._open_handle()
        if not lib.hwloc_topology_is_thissystem(handle):
            raise NotThisSystemError(
                f"cannot bind through {self._source}: it does not describe the running system, and libhwloc would "
                "silently do nothing; load Topology.from_this_system(), or for a saved file of this very machine set "
                "HWLOC_XMLFILE and HWLOC_THISSYSTEM=1"
            )
        return handle


def _refusal(source: str) -> str:
    return (
        f"libhwloc {version_text(RUNNING_VERSION)} cannot import {source} (EINVAL): its objects are incomplete or "
        "contradict each other; HWLOC_XML_VERBOSE=1 in the environment makes libhwloc say where"
    )
