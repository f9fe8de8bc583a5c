"""What libhwloc does not do with memory: keep a policy to restore it exactly, and move all pages.

It calls the kernel itself; why, is beside the calls (shims.h).
"""

from __future__ import annotations

import os
import sys

from hwnuma.hwloc.library import check, ffi, lib
from hwnuma.model.bitmap import NodeSet
from hwnuma.model.value import Value

_WORDS = int(lib.POLICY_WORDS)
_BITS = _WORDS * 8 * int(ffi.sizeof("unsigned long"))


class SavedPolicy(Value):
    """A thread's memory policy as set_mempolicy(2) takes it: mode with its flags, and nodes."""

    mode: int
    nodes: NodeSet


def save_policy() -> SavedPolicy:
    """Read the calling thread's memory policy (get_mempolicy).

    Raises:
        HwlocError: the kernel refused.
    """
    mode, words = ffi.new("int *"), ffi.new("unsigned long[]", _WORDS)
    check(lib.hwnuma_get_mempolicy(mode, words, _BITS), "get_mempolicy")
    return SavedPolicy(int(mode[0]), NodeSet.from_mask(int.from_bytes(ffi.buffer(words), sys.byteorder)))


def restore_policy(saved: SavedPolicy) -> None:
    """Set the calling thread's memory policy to what it was (set_mempolicy).

    Raises:
        HwlocError: the kernel refused.
    """
    words = _words(saved.nodes) if saved.nodes else ffi.NULL
    check(lib.hwnuma_set_mempolicy(saved.mode, words, _BITS if saved.nodes else 0), "set_mempolicy")


def migrate_pages(source: NodeSet, target: NodeSet, pid: int = 0) -> int:
    """Move the pages of a process from some nodes to others (migrate_pages); pages that are shared stay.

    Args:
        source: where pages are to be taken from.
        target: where to; in turn if they are several.
        pid: 0 is this process.

    Returns:
        How many pages could not be moved.

    Raises:
        HwlocError: the kernel refused.
    """
    result: int = lib.hwnuma_migrate_pages(pid, _BITS, _words(source), _words(target))
    return check(result, f"migrate_pages of {pid or os.getpid()} from NUMA nodes {source} to {target}")


def _words(nodes: NodeSet) -> object:
    size = _BITS // 8
    return ffi.from_buffer("unsigned long[]", nodes.mask.to_bytes(size, sys.byteorder))
