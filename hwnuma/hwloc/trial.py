"""Load a saved topology in a process of its own, which it may end: a malformed file must not end this one."""

from __future__ import annotations

import os

from hwnuma.errors import HwlocError, TopologyFileError
from hwnuma.hwloc.library import RUNNING_VERSION, ffi, lib, version_text


def load_apart(document: bytes, name: str, wanted: int) -> str:
    """Load a document that was checked (`hwnuma.hwloc.xml`), and give what planning needs of it (copy_out.c).

    Args:
        document: the content of the file.
        name: what to call it in messages.
        wanted: WANT_PCI and WANT_NETWORK, or neither.

    Raises:
        TopologyFileError: libhwloc refuses it, dies of it, or takes too long or too much memory.
        HwlocError: no process can be started to try it in.
    """
    trial = ffi.new("struct hwnuma_trial *")
    # libhwloc counts the terminating zero byte.
    if lib.hwnuma_try_xml(document, len(document) + 1, wanted, trial) < 0:
        raise HwlocError(
            ffi.errno,
            f"cannot start a process to try {name} in ({os.strerror(ffi.errno)}), and malformed files make libhwloc "
            "end the process that loads them: raise the limit of processes (ulimit -u) or of memory",
        )
    if trial.outcome != lib.TRIAL_LOADED:
        raise TopologyFileError(f"libhwloc {version_text(RUNNING_VERSION)} {_verdict(trial.outcome, trial.code, name)}")
    try:
        return bytes(ffi.buffer(trial.bytes, trial.size)).decode(errors="replace")
    finally:
        lib.free(trial.bytes)


def _verdict(outcome: int, code: int, name: str) -> str:
    if outcome == lib.TRIAL_REFUSED:
        import errno  # only here: this is a mistake in a file

        return (
            f"cannot import {name} ({errno.errorcode.get(code, code)}): its objects are incomplete or contradict each "
            "other; HWLOC_XML_VERBOSE=1 in the environment makes libhwloc say where"
        )
    return (
        f"{_end(outcome, code, name)}, in the process of its own that it was tried in: the file is damaged, or made "
        "to do that; save the topology anew"
    )


def _end(outcome: int, code: int, name: str) -> str:
    if outcome == lib.TRIAL_OVER_TIME:
        return f"takes over {lib.TRIAL_SECONDS} seconds to load {name}"
    if outcome == lib.TRIAL_OVER_MEMORY:
        return f"takes over {lib.TRIAL_MEGABYTES} MB to load {name}"
    import signal  # only here, as above

    return f"dies (of {signal.Signals(code).name}) when it loads {name}"
