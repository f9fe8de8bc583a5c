"""Capture this machine whole: its topology, and beside it what else a plan depends on, in one document."""

from __future__ import annotations

import os

from hwnuma.captures.anonymous import anonymous_facts
from hwnuma.captures.collect import facts_of
from hwnuma.captures.document import document_of
from hwnuma.captures.names import file_named
from hwnuma.hwloc.files import write_whole_file
from hwnuma.hwloc.topology import Topology
from hwnuma.launch.system import load_this_system
from hwnuma.model.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from hwnuma.captures.anonymous import LeftOut
    from hwnuma.model.facts import Facts
    from hwnuma.model.machine import Machine

# Only for the user who captured it: it has serial numbers, addresses and names in it.
_PRIVATE = 0o600


class Capture(Value):
    """A machine as it was captured.

    Attributes:
        document: the XML that hwloc's tools read, and `Topology.from_xml_buffer`.
        machine: what is read from it.
        left_out: what an anonymous one does not tell, by kind.
        is_anonymous: whether it may be given to others.
    """

    document: str
    machine: Machine
    left_out: tuple[LeftOut, ...] = ()
    is_anonymous: bool = False

    @property
    def facts(self) -> Facts | None:
        """What was kept beside the topology; None for a topology of another machine, which had nothing beside it."""
        return self.machine.facts

    def save(self, file: str | os.PathLike[str], *, host: str | None = None) -> str:
        """Write it into a file, whole or not at all, and never through a link.

        Args:
            file: its name, in which ``%N`` or ``%h`` is this host's short name and ``%%`` a percent. What ends in
                ``.gz`` is compressed. Nobody else may read the file, unless the capture is anonymous.
            host: the host that was captured, if it is not this one.

        Returns:
            The name that it has.

        Raises:
            OptionError: it cannot be written, or its name has another pattern in it.
        """
        name = file_named(os.fsdecode(file), host)
        content = self.document.encode()
        if name.lower().endswith(".gz"):
            from gzip import compress  # only for such a file

            content = compress(content, mtime=0)  # without the time, the same machine is the same file
        write_whole_file(name, content, mode=None if self.is_anonymous else _PRIVATE)
        return name


def capture(*, anonymous: bool = False, serials: bool = False, environment: Mapping[str, str] | None = None) -> Capture:
    """Capture this machine: elsewhere, ``hwnuma plan --topology FILE`` gives the plan that it gives here.

    Args:
        anonymous: leave out serial numbers, addresses and names, and put stand-ins in the place of UUIDs.
        serials: ask NVIDIA's driver for the GPUs' serial numbers too.
        environment: what visible devices and launchers' variables are read from; by default this process's.

    Raises:
        HwnumaError: the topology cannot be loaded, or what was captured cannot be read back.
    """
    with load_this_system(network=True, first_caches=True) as topology:
        told = os.environ if environment is None else environment
        facts = facts_of(topology, told, serials=serials and not anonymous)
        document, left_out = document_of(topology.export_xml(), facts, anonymous=anonymous)
    # As whoever loads it will: what cannot be read is not saved.
    with Topology.from_xml_buffer(document, source="what was captured") as read_back:
        machine = read_back.machine()
    if facts is not None and machine.facts is None:  # HWLOC_THISSYSTEM has every topology taken for this system's
        facts = anonymous_facts(facts) if anonymous else facts
        machine = replace(machine, is_this_system=False, facts=facts, core_speeds=facts.core_speeds)
    return Capture(document, machine, left_out, anonymous)
