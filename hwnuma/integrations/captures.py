"""Capture all machines of a cluster: what runs on each, and what becomes of what they answer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hwnuma.devices.visible import VISIBLE_DEVICES
from hwnuma.errors import HwnumaError, OptionError, warn
from hwnuma.launch.capture import Capture, capture


def capture_here(anonymous: bool = False) -> tuple[str, Capture | HwnumaError]:
    """In a worker: capture its machine, without the devices that its engine has given to the worker alone.

    Returns:
        The host's short name, and the capture or why there is none.
    """
    host = os.uname().nodename.partition(".")[0]
    environment = {name: value for name, value in os.environ.items() if name not in VISIBLE_DEVICES}
    try:
        return host, capture(anonymous=anonymous, environment=environment)
    except HwnumaError as error:
        return host, error


def gathered(told: Mapping[str, object], folder: str | os.PathLike[str] | None) -> dict[str, Capture]:
    """Keep what `capture_here` answered by host, save it if that is asked for, and warn of what failed.

    Args:
        told: by the engine's name of the machine, the answer, or an error of the engine's.
        folder: where each is saved as ``HOST.xml.gz``.

    Raises:
        HwnumaError: none could be captured, or a file cannot be written.
    """
    captures: dict[str, Capture] = {}
    failures = []
    for machine, answer in told.items():
        host, result = answer if isinstance(answer, tuple) else (machine, answer)
        if isinstance(result, Capture):
            captures[host] = result
        else:
            failures.append(f"{host} could not be captured: {result or 'it did not answer'}")
    if not captures:
        raise OptionError("; ".join(failures) or "the cluster has no machine that could be captured")
    for failure in failures:
        warn(failure)
    if folder is not None:
        for host, each in captures.items():
            each.save(Path(folder) / "%N.xml.gz", host=host)
    return captures
