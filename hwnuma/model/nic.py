"""Nic: a network card as ranks may send through it, and the words in which a topology keeps what is known of one.

libhwloc tells a card's devices and, of OpenFabrics ones, the state of each port. What it does not tell (rate, link
layer, bond, access) is read from sysfs on the live system and kept in the topology as info attributes of hwloc objects,
whose names begin with ``Hwnuma``: so `hwnuma capture` saves it, and a saved machine is read the same way.
"""

from __future__ import annotations

from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hwnuma.model.contract import RailDict

# Names of info attributes. Port ones have the port's number in them; the state's is libhwloc's own.
PORT_STATE, PORT_RATE, PORT_LINK_LAYER = "Port{}State", "HwnumaPort{}Rate", "HwnumaPort{}LinkLayer"
INTERFACE_STATE, INTERFACE_SPEED, BOND = "HwnumaState", "HwnumaSpeed", "HwnumaBond"
SLINGSHOT, ACCESS, PHYSICAL_FUNCTION = "HwnumaSlingshot", "HwnumaAccess", "HwnumaPhysicalFunction"

INFINIBAND, ETHERNET = "InfiniBand", "Ethernet"
OPENFABRICS_KIND, SLINGSHOT_KIND, ETHERNET_KIND = "openfabrics", "slingshot", "ethernet"

# The kernel's numbers of port states (include/rdma/ib_verbs.h): 4 is ACTIVE, and only through such a port data goes.
_ACTIVE = "4"
_PORT_STATES = {
    "0": "no state",
    "1": "down",
    "2": "initializing",
    "3": "armed",
    _ACTIVE: "active",
    "5": "active deferred",
}

_MOST_DIGITS = 18  # of a number in a name; Python refuses to read thousands
_NO_RATE = 1e9  # in Mb/s or Gb/s: beyond all cards, and infinity

# PCI class 0207: an InfiniBand controller (PCI Code and ID Assignment Specification).
_INFINIBAND_CLASS = 0x0207
_CRAY_CASSINI = (0x17DB, 0x0501)


class NicPort(Value):
    """A port of a network card.

    Attributes:
        number: from 1.
        state: "active", or the kernel's word for why nothing goes through it; "" if it is not known.
        rate: in Gb/s; 0 if it is not known.
        link_layer: "InfiniBand", "Ethernet" or "Unspecified" (AWS's EFA); "" if it is not known.
    """

    number: int = 1
    state: str = ""
    rate: float = 0
    link_layer: str = ""

    @property
    def is_down(self) -> bool:
        """Whether nothing goes through it, as far as is known."""
        return self.state not in ("", "active")


class Nic(Value):
    """A network card's device that ranks may send through.

    Attributes:
        name: ``mlx5_0`` (OpenFabrics), ``cxi0`` (Slingshot), or the interface of a card that is Ethernet alone.
        pci_address: of its PCI function, normalised.
        kind: "openfabrics", "slingshot" or "ethernet".
        vendor_id: PCI vendor.
        ports: its ports; at least one.
        interfaces: the network interfaces of the same PCI function.
        bond: the bond that its interface is a member of; "" for none.
        is_virtual_function: it is a part of another card that this machine has too.
        access: why this process cannot open it; "" if it can, or that is not known.
    """

    name: str
    pci_address: str
    kind: str = OPENFABRICS_KIND
    vendor_id: int = 0
    ports: tuple[NicPort, ...] = (NicPort(),)
    interfaces: tuple[str, ...] = ()
    bond: str = ""
    is_virtual_function: bool = False
    access: str = ""

    @property
    def port(self) -> NicPort:
        """The port to send through: of those that are up the fastest, and of equals the first."""
        up = [port for port in self.ports if not port.is_down]
        return max(up or self.ports, key=lambda port: (port.rate, -port.number))

    def __str__(self) -> str:
        return f"{self.name} ({self.pci_address})"


class Rail(Value):
    """A NIC that a rank sends through.

    Attributes:
        nic: which.
        port: through which of its ports.
        path: how near it is to the rank's GPU, in the words of ``nvidia-smi topo -m``; of several GPUs, the nearest's.
    """

    nic: Nic
    port: int
    path: str

    def as_dict(self) -> RailDict:
        """Give it as plain values, as it stands in `Plan.as_dict`."""
        return {"name": self.nic.name, "port": self.port, "pci_address": self.nic.pci_address, "path": self.path}


class NicMap(Value):
    """Which NICs everybody else of the plan sends through: what some libraries have to be told as a whole.

    Attributes:
        by_rank: of each rank, the number of its first NIC, which is its place among the machine's NICs of the same kind
            in natural order of their names; -1 for none. Empty if the other ranks are not known.
        by_gpu: of each GPU of the host, its PCI address and that of its first NIC.
    """

    by_rank: tuple[int, ...] = ()
    by_gpu: tuple[tuple[str, str], ...] = ()


def natural_key(name: str) -> tuple[tuple[str, int], ...]:
    """Sort key by which mlx5_2 comes before mlx5_10: digits count as numbers."""
    pieces: list[tuple[str, int]] = []
    text = digits = ""
    for letter in name:
        if letter.isdecimal() and letter.isascii():
            digits += letter
            continue
        if digits:
            pieces.append((text, int(digits[:_MOST_DIGITS])))
            text = digits = ""
        text += letter
    return (*pieces, (text, int(digits[:_MOST_DIGITS] or "-1")))


def nics_of_function(
    pci_address: str,
    identity: tuple[int, int, int],
    fabrics: Mapping[str, Mapping[str, str]],
    interfaces: Mapping[str, Mapping[str, str]],
) -> Iterator[Nic]:
    """Make the Nics of a PCI function from the OS devices that a topology has below it.

    Args:
        pci_address: of the function.
        identity: its class, vendor and device id.
        fabrics: its OpenFabrics devices: each with its info attributes.
        interfaces: its network interfaces, likewise.
    """
    class_id, vendor, device = identity
    names = tuple(sorted(interfaces, key=natural_key))
    bond = next((info[BOND] for info in interfaces.values() if info.get(BOND)), "")
    default = INFINIBAND if class_id == _INFINIBAND_CLASS else ETHERNET
    for name, info in fabrics.items():
        yield Nic(
            name, pci_address, OPENFABRICS_KIND, vendor, tuple(_ports(info, default)) or (NicPort(link_layer=default),),
            names, bond, PHYSICAL_FUNCTION in info, info.get(ACCESS, ""),
        )  # fmt: skip
    if fabrics:
        return
    for name in names:
        info = interfaces[name]
        slingshot = info.get(SLINGSHOT) or (name if (vendor, device) == _CRAY_CASSINI else "")
        state = info.get(INTERFACE_STATE, "")
        state = {"up": "active", "unknown": ""}.get(state, state)
        port = NicPort(1, state, _number(info.get(INTERFACE_SPEED, "")) / 1000, ETHERNET)
        yield Nic(
            slingshot or name, pci_address, SLINGSHOT_KIND if slingshot else ETHERNET_KIND, vendor, (port,), (name,),
            info.get(BOND, ""), PHYSICAL_FUNCTION in info, info.get(ACCESS, ""),
        )  # fmt: skip


def _ports(info: Mapping[str, str], default: str) -> Iterator[NicPort]:
    number = 1
    while state := info.get(PORT_STATE.format(number)):
        rate = _number(info.get(PORT_RATE.format(number), "").partition(" ")[0])
        layer = info.get(PORT_LINK_LAYER.format(number)) or default
        yield NicPort(number, _PORT_STATES.get(state, f"state {state}"), rate, layer)
        number += 1


def _number(text: str) -> float:
    """A rate; 0 for what is none, such as the -1 of an interface that is down."""
    try:
        number = float(text)
    except ValueError:
        return 0
    return number if 0 <= number < _NO_RATE else 0
