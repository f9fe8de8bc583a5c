"""Thousands of captures as classes of machines that are alike: which are set up differently, and how, in words.

Every file is read once, in worker processes, for its fingerprint alone; libhwloc loads one file of each class. What a
file does to the process that reads it ends that process at worst, and is told of the file.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, ProcessPoolExecutor, wait
from statistics import median_low

from hwnuma.captures.changed_places import Change, Planned, change_of
from hwnuma.captures.compared import Look, differences, same_memory
from hwnuma.captures.fingerprint import document_of_file, fingerprint_of, fingerprint_of_file
from hwnuma.errors import HwnumaError
from hwnuma.hwloc.topology import Topology
from hwnuma.model.nic import natural_key
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from typing import Any, TypeVar

    from hwnuma.captures.fingerprint import Fingerprint
    from hwnuma.model.machine import Machine

    _Result = TypeVar("_Result")

SCHEMA = 1
ENDINGS = (".xml.gz", ".xml.xz", ".xml")

# So many files a worker is handed at once, and so many such parcels a worker has before it.
_PARCEL, _AHEAD = 16, 3
_DIED = "whatever reads it dies: it is damaged, or made to do that; save the machine anew"


class Broken(Value):
    """A file that is no capture, and why."""

    file: str
    error: str

    def as_dict(self) -> dict[str, str]:
        """Give it as plain values."""
        return {"file": self.file, "error": self.error}


class Class(Value):
    """Machines that are alike.

    Attributes:
        is_norm: whether this is the largest class, by which the others are measured.
        hosts: their names, which are those of their files without the endings, in natural order.
        differences: from the norm, a clause each; empty for the norm itself.
        plans: what becomes of the norm's plan here, in each mode; empty for the norm itself.
    """

    is_norm: bool
    hosts: tuple[str, ...]
    differences: tuple[str, ...] = ()
    plans: tuple[Change, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {
            "norm": self.is_norm,
            "hosts": list(self.hosts),
            "differences": list(self.differences),
            "plans": [change.as_dict() for change in self.plans],
        }


class Fleet(Value):
    """All classes, the norm first and then the largest.

    Attributes:
        classes: none if every file is broken.
        broken: the files that are no captures, in natural order.
    """

    classes: tuple[Class, ...]
    broken: tuple[Broken, ...] = ()

    @property
    def machines(self) -> int:
        """How many machines could be compared."""
        return sum(len(each.hosts) for each in self.classes)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values: what ``hwnuma fleet --format json`` prints. Keys may be added to schema 1.

        ``{"schema": 1, "machines": N, "classes": [CLASS, …], "broken": [{"file": …, "error": …}]}``, a CLASS being
        ``{"norm": true, "hosts": […], "differences": [sentence, …], "plans": [PLAN, …]}``, and a PLAN, of which there
        is one for each mode that was compared, ``{"mode": …, "same": false, "ranks": [those that are placed
        otherwise], "errors": [why the norm has no plan or null, why this class has none or null]}``.
        """
        return {
            "schema": SCHEMA,
            "machines": self.machines,
            "classes": [each.as_dict() for each in self.classes],
            "broken": [each.as_dict() for each in self.broken],
        }


def host_of(file: str) -> str:
    """The host that a capture is of: the file's name without its endings."""
    name = file.rpartition("/")[2]
    return next((name[: -len(ending)] for ending in ENDINGS if name.lower().endswith(ending)), name)


def classify(
    files: Sequence[str],
    plans: Callable[[Machine], tuple[Planned, ...]],
    *,
    workers: int | None = None,
    advance: Callable[[int], object] = lambda _files: None,
) -> Fleet:
    """Sort captures into classes.

    Args:
        files: the captures.
        plans: gives a machine's plan in each mode; it is called in the workers, so it has to pickle.
        workers: how many processes read; by default one for each CPU that this process may use.
        advance: is told how many files more have been read.
    """
    running = _Workers(workers or len(os.sched_getaffinity(0)))
    groups, broken = _read(files, running, advance)
    judged: list[_Judged] = []
    for _ in range(2):  # a second time where classes that are alike in words outnumber what was the norm
        judged, unreadable = _judge(groups, plans, running)
        broken += unreadable
        if not judged or max(judged, key=_size) is judged[0]:
            break
        largest = max(judged, key=_size).files
        groups = sorted((group for each in judged for group in each.groups), key=lambda group: group[0] not in largest)
    classes = tuple(
        Class(place == 0, tuple(sorted(map(host_of, each.files), key=natural_key)), each.differences, each.plans)
        for place, each in enumerate([*judged[:1], *sorted(judged[1:], key=lambda each: -_size(each))])
    )
    return Fleet(classes, tuple(sorted(broken, key=lambda each: natural_key(each.file))))


# ---- reading all ---------------------------------------------------------------------------------------------

# Files that are alike, the most typical one first.
_Group = list[str]


def _read(
    files: Sequence[str], running: _Workers, advance: Callable[[int], object]
) -> tuple[list[_Group], list[Broken]]:
    """Read every file: groups of files that are alike, the largest first, and what is broken."""
    by_digest: dict[bytes, dict[str, tuple[int, ...]]] = {}
    broken: list[Broken] = []
    for parcel, told in running.results(
        _fingerprints, (files[at : at + _PARCEL] for at in range(0, len(files), _PARCEL))
    ):
        for file, found in zip(parcel, told or [_DIED] * len(parcel), strict=True):
            if isinstance(found, str):
                broken.append(Broken(file, found))
            else:
                digest, memory = found
                by_digest.setdefault(digest, {})[file] = memory
        advance(len(parcel))
    groups = [group for sizes in by_digest.values() for group in _by_memory(sizes)]
    return sorted(groups, key=lambda group: (-len(group), natural_key(min(group, key=natural_key)))), broken


def _fingerprints(files: Sequence[str]) -> list[tuple[bytes, tuple[int, ...]] | str]:
    """In a worker: of each file the fingerprint, or what is wrong with it."""
    return [_told(_fingerprint, file) for file in files]


def _fingerprint(file: str) -> tuple[bytes, tuple[int, ...]]:
    found: Fingerprint = fingerprint_of_file(file)
    return found.digest, found.memory


def _told(call: Callable[[str], _Result], file: str) -> _Result | str:
    try:
        return call(file)
    except HwnumaError as error:
        return str(error)
    except MemoryError:
        return f"there is not enough memory to read {file}"


def _by_memory(sizes: dict[str, tuple[int, ...]]) -> Iterator[_Group]:
    """Part machines that are alike but for their memory: those within the tolerance of the middle one, and the rest."""
    while sizes:
        middle = tuple(map(median_low, zip(*sizes.values(), strict=True)))
        near = [file for file, memory in sizes.items() if _same(memory, middle)]
        # Of several middles at once (a node each), maybe none has all.
        near = near or [next(iter(sizes))]
        near.sort(
            key=lambda file: (sum(abs(one - other) for one, other in zip(sizes[file], middle, strict=True)), file)
        )
        yield near
        taken = set(near)
        sizes = {file: memory for file, memory in sizes.items() if file not in taken}


def _same(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return one == other or all(map(same_memory, one, other))


# ---- one of each ---------------------------------------------------------------------------------------------


class _Judged:
    """Groups of files that differ from the norm in the same words."""

    def __init__(self, found: tuple[str, ...], plans: tuple[Change, ...]) -> None:
        self.differences, self.plans = found, plans
        self.groups: list[_Group] = []

    @property
    def files(self) -> list[str]:
        """All of them."""
        return [file for group in self.groups for file in group]


def _size(judged: _Judged) -> int:
    return len(judged.files)


class _Norm(Value):
    """The machine that others are compared with, and its plans."""

    look: Look
    plans: tuple[Planned, ...]


class _Load(Value):
    """In a worker: load files as norms."""

    plans: Callable[[Machine], tuple[Planned, ...]]

    def __call__(self, files: Sequence[str]) -> list[_Norm | str]:
        return [_told(self._load, file) for file in files]

    def _load(self, file: str) -> _Norm:
        look = look_of_file(file)
        return _Norm(look, self.plans(look.machine))


class _Compare(Value):
    """In a worker: compare files with the norm."""

    norm: _Norm
    load: _Load

    def __call__(self, files: Sequence[str]) -> list[tuple[tuple[str, ...], tuple[Change, ...]] | str]:
        return [_told(self._compare, file) for file in files]

    def _compare(self, file: str) -> tuple[tuple[str, ...], tuple[Change, ...]]:
        other = self.load._load(file)
        changes = tuple(map(change_of, self.norm.plans, other.plans))
        return tuple(differences(self.norm.look, other.look)), changes


def look_of_file(file: str) -> Look:
    """Load a capture to be compared.

    Raises:
        HwnumaError: it is none, or libhwloc refuses it or dies of it.
    """
    return look_of(document_of_file(file), file)


def look_of(document: bytes, name: str) -> Look:
    """Load a capture to be compared from a file's content.

    Args:
        document: what is in it.
        name: what to call it.

    Raises:
        HwnumaError: as `look_of_file`.
    """
    about = fingerprint_of(document, name).about
    with Topology.from_xml_buffer(document, source=name) as topology:
        return Look(topology.machine(), about)


def _judge(
    groups: Sequence[_Group], plans: Callable[[Machine], tuple[Planned, ...]], running: _Workers
) -> tuple[list[_Judged], list[Broken]]:
    """Compare a file of each group with one of the first that can be loaded, and join what is alike in words."""
    broken: list[Broken] = []
    norm: _Norm | None = None
    judged: dict[tuple[str, ...], _Judged] = {(): _Judged((), ())}
    rest = deque(groups)
    while rest and norm is None:
        [(group, norm, failed)] = _one_of_each([rest.popleft()], _Load(plans), running)
        broken += (Broken(file, error) for file, error in failed.items())
        if norm is not None:
            judged[()].groups.append([file for file in group if file not in failed])
    if norm is None:
        return [], broken
    for group, verdict, failed in _one_of_each(rest, _Compare(norm, _Load(plans)), running):
        broken += (Broken(file, error) for file, error in failed.items())
        if verdict is not None:
            each = judged.setdefault(verdict[0], _Judged(*verdict))
            each.groups.append([file for file in group if file not in failed])
    return list(judged.values()), broken


def _one_of_each(
    groups: Iterable[_Group], call: Callable[[Sequence[str]], Sequence[_Result | str]], running: _Workers
) -> list[tuple[_Group, _Result | None, dict[str, str]]]:
    """Load the first file of each group: what was found, and which files failed and why.

    Where that one fails all others of its group are loaded too: they may be no better, and the fault not be theirs.
    """
    found: list[tuple[_Group, _Result | None, dict[str, str]]] = [(group, None, {}) for group in groups]
    for is_first in (True, False):
        places = {
            file: place
            for place, (group, _, failed) in enumerate(found)
            for file in (group[:1] if is_first else group[1:] if failed else ())
        }
        for [file], told in running.results(call, ([file] for file in places)):
            group, known, failed = found[places[file]]
            result = _DIED if told is None else told[0]
            if isinstance(result, str):
                failed[file] = result
            elif known is None:
                found[places[file]] = group, result, failed
    return found


# ---- workers -------------------------------------------------------------------------------------------------


class _Workers:
    """Processes that read files, some at a time; one that dies takes no other's work with it."""

    def __init__(self, number: int) -> None:
        self._number = number

    def results(
        self, call: Callable[[Sequence[str]], Sequence[_Result]], parcels: Iterable[Sequence[str]]
    ) -> Iterator[tuple[Sequence[str], Sequence[_Result] | None]]:
        """Call with each parcel of files, in any order. Where that ends the process, with each file of it alone.

        Yields:
            A parcel, or one file of it, with what came of it; None for a file that ends the process.
        """
        waiting = iter(parcels)
        going_on = True
        while going_on:
            suspects: list[Sequence[str]] = []
            yield from self._round(call, waiting, suspects)
            going_on = bool(suspects)
            for file in (file for parcel in suspects for file in parcel):
                alone: list[Sequence[str]] = []
                yield from self._round(call, iter([[file]]), alone)
                yield from (([file], None) for _ in alone)

    def _round(
        self,
        call: Callable[[Sequence[str]], Sequence[_Result]],
        parcels: Iterator[Sequence[str]],
        suspects: list[Sequence[str]],
    ) -> Iterator[tuple[Sequence[str], Sequence[_Result]]]:
        """Call with all parcels, or until a process dies: those that were handed out and not answered are suspects."""
        pending: dict[Future[Sequence[_Result]], Sequence[str]] = {}
        with ProcessPoolExecutor(self._number) as pool:
            while True:
                while not suspects and len(pending) < self._number * _AHEAD:
                    parcel = next(parcels, None)
                    if parcel is None:
                        break
                    try:
                        pending[pool.submit(call, parcel)] = parcel
                    except BrokenExecutor:
                        suspects.append(parcel)
                if not pending:
                    return
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    parcel = pending.pop(future)
                    try:
                        yield parcel, future.result()
                    except BrokenExecutor:
                        suspects.append(parcel)
