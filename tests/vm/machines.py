"""The machines that guests are: what QEMU is asked for, and so what the kernel inside has to find.

All numbers are the guest kernel's own (OS indexes). CPUs are numbered as a real server's firmware does it:
first one thread of every core, through all dies and packages, then the cores' other threads. So the
threads of core 3 of a machine of 16 cores are CPUs 3 and 19, and libhwloc's logical numbers differ from
the kernel's, as they do on real machines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Cpus = frozenset[int]


@dataclass(frozen=True, slots=True)
class Machine:
    """What a guest is made of.

    Attributes:
        name: what the machine is called on the command line and in the names of tests.
        about: one line for people.
        packages: number of processor packages (sockets).
        dies_per_package: dies of a package; each die is one L3 cache.
        cores_per_die: cores of a die; each has its own L1 and L2 caches.
        threads_per_core: hardware threads of a core.
        node_dies: for each NUMA node its dies, numbered through the machine; none for a node of memory
            alone. Empty if the firmware has no NUMA tables at all.
        memory: MiB of each node.
        displays: for each display device (PCI class 0380, the stand-in for a GPU) the NUMA node that
            firmware says it is on, or -1 if it does not say.
        distances: the SLIT, one row a node; empty leaves it to QEMU (10, and 20 between nodes).
        initiators: for each node the node whose CPUs are nearest to its memory; if given, the firmware
            has an HMAT that says so.
        offline: CPUs that are taken offline before the command runs.
        cpuset_cpus: ``cpuset.cpus`` of the cgroup that the command runs in, in list form; "" for no limit.
        cpuset_mems: ``cpuset.mems`` of that cgroup.
        empty_nodes: nodes that have neither CPUs nor memory.
        processor: "x86_64" or "aarch64", as QEMU's programs are named.
    """

    name: str
    about: str
    packages: int
    dies_per_package: int
    cores_per_die: int
    threads_per_core: int
    node_dies: tuple[tuple[int, ...], ...]
    memory: int
    displays: tuple[int, ...]
    distances: tuple[tuple[int, ...], ...] = ()
    initiators: tuple[int, ...] = ()
    offline: frozenset[int] = frozenset()
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    empty_nodes: frozenset[int] = frozenset()
    processor: str = "x86_64"

    @property
    def die_count(self) -> int:
        """Number of dies in the machine."""
        return self.packages * self.dies_per_package

    @property
    def core_count(self) -> int:
        """Number of cores in the machine."""
        return self.die_count * self.cores_per_die

    @property
    def cpu_count(self) -> int:
        """Number of CPUs (hardware threads) in the machine, offline ones included."""
        return self.core_count * self.threads_per_core

    @property
    def online(self) -> Cpus:
        """The CPUs that are online."""
        return frozenset(range(self.cpu_count)) - self.offline

    @property
    def allowed(self) -> Cpus:
        """The CPUs that the command may run on."""
        return self.online & parse_list(self.cpuset_cpus) if self.cpuset_cpus else self.online

    @property
    def memory_nodes(self) -> list[int]:
        """The NUMA nodes that have memory; without NUMA tables the kernel makes node 0."""
        return [node for node in range(max(1, len(self.node_dies))) if node not in self.empty_nodes]

    @property
    def allowed_nodes(self) -> frozenset[int]:
        """The NUMA nodes whose memory the command may use."""
        return parse_list(self.cpuset_mems) if self.cpuset_mems else frozenset(self.memory_nodes)

    def online_of_dies(self, dies: Iterable[int]) -> Cpus:
        """The online CPUs of some dies."""
        cores = [die * self.cores_per_die + core for die in dies for core in range(self.cores_per_die)]
        return self.online.intersection(*[[cpu for core in cores for cpu in self._threads_of(core)]])

    def online_of_node(self, node: int) -> Cpus:
        """The online CPUs of a NUMA node; without NUMA tables, node 0 has all."""
        return self.online_of_dies(self.node_dies[node]) if self.node_dies else self.online

    def online_by_package(self) -> tuple[Cpus, ...]:
        """The online CPUs of each package."""
        per = self.dies_per_package
        return tuple(self.online_of_dies(range(package * per, (package + 1) * per)) for package in range(self.packages))

    def online_by_core(self) -> tuple[Cpus, ...]:
        """The online CPUs of each core that has any, in the order of the cores."""
        cores = (self.online.intersection(self._threads_of(core)) for core in range(self.core_count))
        return tuple(core for core in cores if core)

    def display_addresses(self) -> tuple[str, ...]:
        """The PCI address of each display, in the order of `displays`.

        A node's displays are on a host bridge of their own, whose buses start at `first_bus`; each
        display is alone on the bus behind its root port, and root ports are numbered in order.
        """
        addresses = []
        for position, node in enumerate(self.displays):
            bus = first_bus(node) + 1 + self.displays[:position].count(node)
            addresses.append(f"0000:{bus:02x}:00.0")
        return tuple(addresses)

    def _threads_of(self, core: int) -> range:
        return range(core, self.cpu_count, self.core_count)


def first_bus(node: int) -> int:
    """Return the number of the first PCI bus of a NUMA node (-1: of the bus that is on no node)."""
    return (node + 1) * 0x20


def parse_list(text: str) -> frozenset[int]:
    """Read the kernel's list form of a set (``0-3,8``), independently of hwnuma."""
    members: set[int] = set()
    for piece in filter(None, text.strip().split(",")):
        first, _, last = piece.partition("-")
        members.update(range(int(first), int(last or first) + 1))
    return frozenset(members)


# As of a two-socket EPYC: the nodes of a package are near each other, and far from the other package's.
_TWO_PACKAGES_OF_TWO_NODES = ((10, 12, 32, 32), (12, 10, 32, 32), (32, 32, 10, 12), (32, 32, 12, 10))
# Nodes 2 and 3 are memory alone: 2 next to node 0, 3 next to node 1.
_TWO_NODES_AND_TWO_MEMORIES = ((10, 21, 17, 28), (21, 10, 28, 17), (17, 28, 10, 28), (28, 17, 28, 10))

TWO_SOCKET_NPS2 = Machine(
    name="two-socket-nps2",
    about="2 packages x 2 nodes x 2 L3s x 2 cores x 2 threads; displays on nodes 1, 1, 0 and 3",
    packages=2,
    dies_per_package=4,
    cores_per_die=2,
    threads_per_core=2,
    node_dies=((0, 1), (2, 3), (4, 5), (6, 7)),
    memory=384,
    displays=(1, 1, 0, 3),
    distances=_TWO_PACKAGES_OF_TWO_NODES,
)

FOUR_NODES = Machine(
    name="four-nodes",
    about="2 packages x 2 nodes of one L3 and 2 cores x 2 threads; one display on each node; 1 GiB a node",
    packages=2,
    dies_per_package=2,
    cores_per_die=2,
    threads_per_core=2,
    node_dies=((0,), (1,), (2,), (3,)),
    memory=1024,
    displays=(0, 1, 2, 3),
    distances=_TWO_PACKAGES_OF_TWO_NODES,
)

CPULESS = Machine(
    name="cpuless",
    about="2 packages = 2 nodes of 4 cores x 2 threads, and 2 nodes of memory alone; displays on node 1 and on none",
    packages=2,
    dies_per_package=1,
    cores_per_die=4,
    threads_per_core=2,
    node_dies=((0,), (1,), (), ()),
    memory=384,
    displays=(1, -1),
    distances=_TWO_NODES_AND_TWO_MEMORIES,
)

CPULESS_HMAT = Machine(
    name="cpuless-hmat",
    about=(
        "cpuless with an HMAT (whose CPUs are nearest to which memory), a third display on node 3, memory alone, "
        "and a fourth on node 0"
    ),
    packages=2,
    dies_per_package=1,
    cores_per_die=4,
    threads_per_core=2,
    node_dies=((0,), (1,), (), ()),
    memory=384,
    displays=(1, -1, 3, 0),
    distances=_TWO_NODES_AND_TWO_MEMORIES,
    initiators=(0, 1, 0, 1),
)

OFFLINE_RESTRICTED = Machine(
    name="offline-restricted",
    about=(
        "two-socket-nps2 less a core and a half of node 1 and an L3 of node 3 (offline), in a cgroup with all CPUs "
        "of node 1, some of nodes 0 and 2, none of node 3, and the memory of nodes 0 and 1"
    ),
    packages=2,
    dies_per_package=4,
    cores_per_die=2,
    threads_per_core=2,
    node_dies=((0, 1), (2, 3), (4, 5), (6, 7)),
    memory=384,
    displays=(1, 1, 0, 3),
    distances=_TWO_PACKAGES_OF_TWO_NODES,
    offline=frozenset({5, 21, 23, 12, 13, 28, 29}),
    cpuset_cpus="2-8,18-24",
    cpuset_mems="0-1",
)

SINGLE = Machine(
    name="single",
    about="1 package of 4 cores x 2 threads without NUMA tables; one display, on no node",
    packages=1,
    dies_per_package=1,
    cores_per_die=4,
    threads_per_core=2,
    node_dies=(),
    memory=1024,
    displays=(-1,),
)

MACHINES = {
    machine.name: machine
    for machine in (TWO_SOCKET_NPS2, FOUR_NODES, CPULESS, CPULESS_HMAT, OFFLINE_RESTRICTED, SINGLE)
}


def _grace_distances() -> tuple[tuple[int, ...], ...]:
    """As of a GB200 (fixtures/machines/gb200_nvl72_tray.toml): two packages, and two GPUs of three nodes by each."""

    def distance(node: int, other: int) -> int:
        if node == other:
            return 10
        gpu, other_gpu = (each // 3 if each >= 0 else None for each in (node - 2, other - 2))
        if gpu is not None and other_gpu is not None:
            return 11 if gpu == other_gpu else 40
        if gpu is None and other_gpu is None:
            return 40
        package, its_gpu = (node, other_gpu) if gpu is None else (other, gpu)
        assert its_gpu is not None
        return 80 if its_gpu // 2 == package else 120

    return tuple(tuple(distance(node, other) for other in range(14)) for node in range(14))


# A GB200's tray has 34 nodes, eight for each GPU: its memory, and seven for MIG that are empty. Debian's kernels for
# arm64 take 16 (CONFIG_NODES_SHIFT=4), so here they are three for each.
GRACE = Machine(
    name="grace",
    about=(
        "Arm: 2 packages = 2 nodes of an L3 and 4 cores, two displays on each; nodes 2, 5, 8 and 11 are the displays' "
        "memory, and two that are empty follow each"
    ),
    packages=2,
    dies_per_package=1,
    cores_per_die=4,
    threads_per_core=1,
    node_dies=((0,), (1,), *((),) * 12),
    memory=320,
    displays=(0, 0, 1, 1),
    distances=_grace_distances(),
    empty_nodes=frozenset(range(2, 14)) - {2, 5, 8, 11},
    processor="aarch64",
)

# For tests that take a machine of one node and two cores for granted, as CI's is.
ARM_SINGLE = Machine(
    name="arm-single",
    about="Arm: 1 package = 1 node of an L3 and 2 cores; one display",
    packages=1,
    dies_per_package=1,
    cores_per_die=2,
    threads_per_core=1,
    node_dies=((0,),),
    memory=1536,
    displays=(0,),
    distances=((10,),),
    processor="aarch64",
)
