"""A fleet as text for people: the norm, then each class that differs, with what differs. Pure."""

from __future__ import annotations

from hwnuma.captures.changed_places import sentences
from hwnuma.captures.fleet import Class, Fleet
from hwnuma.captures.hosts import folded
from hwnuma.model.characters import printable_text


def fleet_as_text(fleet: Fleet) -> str:
    """The classes, a paragraph each; hosts are folded, and lists of them are never broken into lines."""
    lines = [_summary(fleet)]
    for each in fleet.classes:
        lines += ["", f"{'norm' if each.is_norm else 'differs'}, {len(each.hosts)}: {folded(each.hosts)}"]
        lines += [f"  {sentence}" for sentence in _sentences(each)]
    if fleet.broken:
        lines += [
            "",
            *(
                f"broken: {each.error if each.file in each.error else f'{each.file}: {each.error}'}"
                for each in fleet.broken
            ),
        ]
    return printable_text(lines)


def _summary(fleet: Fleet) -> str:
    said = f"{fleet.machines} machine{'' if fleet.machines == 1 else 's'}"
    different = sum(len(each.hosts) for each in fleet.classes[1:])
    classes = len(fleet.classes) - 1
    if different:
        said += f", {different} of them in {classes} class{' that differs' if classes == 1 else 'es that differ'}"
    else:
        said += ", all alike" if fleet.classes else ""
    broken = len(fleet.broken)
    return said + (f"; {broken} file{'' if broken == 1 else 's'} broken" if broken else "")


def _sentences(each: Class) -> list[str]:
    if each.is_norm:
        return []
    changed = sentences(each.plans)
    plans = [f"plans: {sentence}" for sentence in changed] or ["plans: the norm's"]
    return [*each.differences, *plans]
