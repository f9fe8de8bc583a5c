"""Deny system calls to this process for good, by a real seccomp filter, as a container's runtime does."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

# asm/unistd_64.h and asm-generic/unistd.h.
NUMBERS = {
    "x86_64": {
        "clone": 56,
        "sched_setaffinity": 203,
        "sched_getaffinity": 204,
        "mbind": 237,
        "set_mempolicy": 238,
        "get_mempolicy": 239,
        "migrate_pages": 256,
    },
    "aarch64": {
        "clone": 220,
        "sched_setaffinity": 122,
        "sched_getaffinity": 123,
        "mbind": 235,
        "get_mempolicy": 236,
        "set_mempolicy": 237,
        "migrate_pages": 238,
    },
}

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h: LD|W|ABS, JMP|JEQ|K, RET|K
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000  # linux/seccomp.h


def can_deny() -> bool:
    """Whether the numbers of this machine's system calls are known here."""
    return platform.machine() in NUMBERS


def deny(*calls: str, code: int = errno.EPERM) -> None:
    """Let these system calls fail from now on, in this thread and what it starts."""
    known = NUMBERS[platform.machine()]
    instructions = [(_LOAD_WORD, 0, 0, 0)]  # struct seccomp_data begins with the call's number
    for call in calls:
        instructions += [(_JUMP_IF_EQUAL, 0, 1, known[call]), (_RETURN, 0, 0, _ERRNO | code)]
    instructions.append((_RETURN, 0, 0, _ALLOW))
    code_bytes = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in instructions))
    program = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(code_bytes))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
