"""What changed of some processes from one look to the next: an event each. Pure: whoever looks gives what was seen.

A process is known by its number and by when it was started, since numbers are given anew.
"""

from __future__ import annotations

from hwnuma.model.numbers import size_text
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from hwnuma.processes.verification import Verification

# Remote memory is told when it has grown by that much and by a tenth of all that the process has: less moves all the
# time. In bytes.
_REMOTE_STEP = 64 << 20
_REMOTE_SHARE = 10


class Seen(Value):
    """One process at one look.

    Attributes:
        pid: the process.
        start: when it was started (`hwnuma.processes.procfs.start_time`).
        verification: what was found, with its defeaters.
        error: why it cannot be verified, if so.
    """

    pid: int
    start: int
    verification: Verification | None = None
    error: str = ""


class Event(Value):
    """Something that changed.

    Attributes:
        seconds: since the watch began.
        pid: the process.
        name: its name.
        event: what it is, a word: those of `Watcher`.
        text: a clause for people.
        details: what there is to know of it beside, by name.
    """

    seconds: float
    pid: int
    name: str
    event: str
    text: str
    details: Mapping[str, Any] = {}

    def __str__(self) -> str:
        name = f" ({self.name})" if self.name else ""
        return f"+{self.seconds:.1f} s process {self.pid}{name}: {self.text}"

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values."""
        own = {"seconds": round(self.seconds, 3), "pid": self.pid, "name": self.name, "event": self.event}
        return {**own, "text": self.text, **self.details}


_Change = tuple[str, str, dict[str, object]]


class Watcher:
    """What is known of the processes that are watched, from one look to the next.

    Its events are: ``watched`` (a process is seen for the first time), ``thread_left`` and ``thread_back`` (of its
    CPUs), ``thread_outside`` (a new thread is elsewhere), ``narrowed`` and ``widened`` (the process as a whole),
    ``remote_memory`` (it has grown), ``policy_changed`` and ``policy_back`` (a thread's memory policy), ``defeater``
    and ``defeater_gone``, ``not_verified``, ``ended``.

    Attributes:
        drifted: whether anything was off at any look.
        verified: whether anything could be verified.
        not_verified: whether anything could not.
    """

    def __init__(self) -> None:
        self.drifted: bool = False
        self.verified: bool = False
        self.not_verified: bool = False
        self._known: dict[tuple[int, int], _Known] = {}

    def look(self, seconds: float, seen: Iterable[Seen]) -> list[Event]:
        """Say what changed since the last look.

        Args:
            seconds: since the watch began.
            seen: the processes that there are now.
        """
        now = {(each.pid, each.start): each for each in seen}
        ended = [key for key in self._known if key not in now]
        events = [Event(seconds, key[0], self._known.pop(key).name, "ended", "ended") for key in ended]
        for key, each in now.items():
            known = self._known.setdefault(key, _Known())
            changes = known.changes(each)
            events += [Event(seconds, each.pid, known.name, *change) for change in changes]
            self._judge(each.verification)
        return events

    def _judge(self, found: Verification | None) -> None:
        self.not_verified = self.not_verified or found is None
        self.verified = self.verified or found is not None
        self.drifted = self.drifted or (found is not None and not found.ok)


class _Known:
    """One process, as it was at the last look."""

    def __init__(self) -> None:
        self.name = ""
        self.error = ""
        self.last: Verification | None = None
        self.remote_told = 0

    def changes(self, seen: Seen) -> list[_Change]:
        """What is new, and remember it."""
        found, self.error, before = seen.verification, seen.error, self.error
        if found is None:
            return [] if self.error == before else [("not_verified", f"cannot be verified: {seen.error}", {})]
        self.name = found.name
        changes = [
            *_first(self.last, found),
            *_threads(self.last, found),
            *_whole(self.last, found),
            *_policies(self.last, found),
            *self._remote(found),
            *_defeaters(self.last, found),
        ]
        self.last = found
        return changes

    def _remote(self, found: Verification) -> Iterator[_Change]:
        remote = found.remote_bytes
        total = 0 if found.pages is None else found.pages.own_total
        if remote >= self.remote_told + max(_REMOTE_STEP, total // _REMOTE_SHARE):
            self.remote_told = remote
            text = f"{size_text(remote)} of its {size_text(total)} are not on NUMA nodes {found.expected.nodeset}"
            yield "remote_memory", text, {"remote_bytes": remote, "own_bytes": total}
        elif remote < self.remote_told // 2:
            self.remote_told = remote  # if it grows again, that is told again


def _first(last: Verification | None, found: Verification) -> Iterator[_Change]:
    if last is None:
        said = "ok" if found.ok else "; ".join(found.problems)
        cpus = str(found.expected.cpuset)
        text = f"watched, {len(found.threads)} threads, CPUs {cpus} expected by {found.expected.source}: {said}"
        yield "watched", text, {"ok": found.ok, "expected": cpus, "threads": len(found.threads)}


def _threads(last: Verification | None, found: Verification) -> Iterator[_Change]:
    """Threads that are off now and were not, and the reverse; of one that has ended nothing is said."""
    were = {} if last is None else {drift.tid: drift for drift in _off(last)}
    were_there = set() if last is None else {thread.tid for thread in last.threads}
    off = {drift.tid: drift for drift in _off(found)}
    for tid, drift in off.items():
        if tid not in were or were[tid].found != drift.found:
            event = "thread_left" if tid in were_there else "thread_outside"
            details = {"tid": tid, "thread": drift.name, "found": str(drift.found), "expected": str(drift.expected)}
            yield event, f"{'' if tid in were_there else 'new '}{drift}", details
    for thread in found.threads:
        if thread.tid in were and thread.tid not in off:
            details = {"tid": thread.tid, "thread": thread.name, "found": str(thread.cpuset)}
            yield "thread_back", f"thread {thread.tid} ({thread.name}) is back on CPUs {thread.cpuset}", details


def _off(found: Verification) -> Sequence[Any]:
    return found.drift if found.exact else found.outside


def _whole(last: Verification | None, found: Verification) -> Iterator[_Change]:
    before = "" if last is None else str(last.unreached_cpuset)
    now = "" if found.outside else str(found.unreached_cpuset)
    if now and now != before:
        yield "narrowed", f"none of its threads may run on CPUs {now}", {"unreached": now}
    elif before and not found.unreached_cpuset:
        yield "widened", f"its threads reach all of CPUs {found.expected.cpuset} again", {}


def _policies(last: Verification | None, found: Verification) -> Iterator[_Change]:
    were = set() if last is None else {drift.tid for drift in last.memory_drift}
    now = {drift.tid: drift for drift in found.memory_drift}
    for tid, drift in now.items():
        if tid not in were:
            details = {"tid": tid, "thread": drift.name, "found": drift.found, "expected": drift.expected}
            text = f"thread {tid} ({drift.name}) has memory policy {drift.found}, expected {drift.expected}"
            yield "policy_changed", text, details
    for thread in found.threads:
        if thread.tid in were and thread.tid not in now:
            text = f"thread {thread.tid} ({thread.name}) has memory policy {thread.policy} again"
            yield "policy_back", text, {"tid": thread.tid, "thread": thread.name}


def _defeaters(last: Verification | None, found: Verification) -> Iterator[_Change]:
    """Those of information are told at the first look only, and not at all: they are no change."""
    were = {} if last is None else {each.name: each for each in last.defeaters}
    now = {each.name: each for each in found.defeaters if each.weight != "information"}
    for name, each in now.items():
        if name not in were:
            text = f"defeated by {name}: {each.found}; remedy: {each.remedy}"
            yield "defeater", text, {"defeater": name, "found": each.found, "remedy": each.remedy}
    for name, each in were.items():
        if name not in now and each.weight != "information":
            yield "defeater_gone", f"{name} no longer counts", {"defeater": name}
