"""Which NICs each GPU sends through, so that no NIC carries more than it must. Pure arithmetic on numbers.

GPUs and NICs are numbers here, in the order by which ties are broken, and a set of NICs is an int with a bit for each.
The answer is made in three steps, each polynomial:

1. A first assignment: for `near`, each GPU takes the least loaded of its nearest NICs; for `balance`, the one with the
   least sum of distances among those in which no NIC carries more than GPUs / NICs, rounded up, by successive shortest
   paths (Ahuja, Magnanti, Orlin: Network Flows, 9.7).
2. Its loads are evened out along alternating paths, as long as one ends at a NIC that carries less by two or more.
   When none is left, the fullest NIC is as empty as can be (Harvey, Ladner, Lovász, Tamir: Semi-matchings for Bipartite
   Graphs and Load Balancing, theorem 3.1), and so is the next fullest.
3. In their order, the GPUs get the first NIC that leaves the others an answer that is as good.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import reduce
from heapq import heappop, heappush
from operator import or_

Distances = Sequence[Sequence[int]]


def nearest(distances: Distances, each: int = 1) -> list[list[int]]:
    """Give each GPU its nearest NICs, spread so that the fullest NIC carries as few GPUs as it can.

    Args:
        distances: of each GPU (row) to each NIC (column), equal ones for NICs that are equally near.
        each: how many NICs a GPU gets, at most as many as there are.

    Returns:
        Of each GPU the numbers of its NICs, sorted.
    """
    state = _Assignment(len(distances), _width(distances))
    choices = []
    classes: dict[tuple[int, ...], tuple[int, int]] = {}  # GPUs of one switch have equal rows
    for gpu, row in enumerate(map(tuple, distances)):
        if row not in classes:
            # What is nearer than the last class to be chosen from is taken whole.
            bound = sorted(row)[each - 1]
            nearer = [nic for nic, distance in enumerate(row) if distance < bound]
            classes[row] = _mask(nearer), _mask([nic for nic, distance in enumerate(row) if distance == bound])
        taken, choice = classes[row]
        for nic in _members(taken):
            state.take(gpu, nic)
        choices.append(choice)
    for gpu, choice in enumerate(choices):
        free = sorted(_members(choice), key=lambda nic: (state.load[nic], nic))
        for nic in free[: each - state.taken[gpu].bit_count()]:
            state.take(gpu, nic)
    return state.settled(choices, 0)


def balanced(distances: Distances, each: int = 1) -> list[list[int]]:
    """Give each GPU NICs such that the fullest carries as few GPUs as can be, then that the sum of distances is least.

    Args:
        distances: as for `nearest`.
        each: as for `nearest`.

    Returns:
        As `nearest`.
    """
    flow = _CheapestFlow(distances, each)
    for gpu in range(len(distances)):
        for _ in range(each):
            flow.add(gpu)
    return flow.settled_among_equals()


def _width(distances: Distances) -> int:
    """How many NICs there are; none where no GPU tells."""
    return len(next(iter(distances), ()))


def _mask(members: Iterator[int] | Sequence[int]) -> int:
    return sum(1 << member for member in members)


def _members(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


class _Assignment:
    """Who sends through what.

    Attributes:
        taken: the NICs of each GPU.
        holders: the GPUs of each NIC.
        load: how many GPUs each NIC carries.
        of_load: the NICs of each load.
    """

    def __init__(self, gpus: int, nics: int) -> None:
        self.of_load = defaultdict(int, {0: (1 << nics) - 1})
        self.taken = [0] * gpus
        self.holders = [0] * nics
        self.load = [0] * nics

    def take(self, gpu: int, nic: int) -> None:
        self.taken[gpu] |= 1 << nic
        self.holders[nic] |= 1 << gpu
        self._change_load(nic, 1)

    def drop(self, gpu: int, nic: int) -> None:
        self.taken[gpu] ^= 1 << nic
        self.holders[nic] ^= 1 << gpu
        self._change_load(nic, -1)

    def _change_load(self, nic: int, by: int) -> None:
        self.of_load[self.load[nic]] ^= 1 << nic
        self.load[nic] += by
        self.of_load[self.load[nic]] ^= 1 << nic

    def settled(self, choices: Sequence[int], locked: int) -> list[list[int]]:
        """Even out the loads, and break ties.

        Args:
            choices: of each GPU the NICs that it may give up or take; it keeps what else it has.
            locked: the NICs whose load must stay as it is, which is as much as any may carry.
        """
        self._even_out(choices, locked)
        willing = [0] * len(self.load)  # of each NIC, the GPUs that may take it
        alike: defaultdict[int, int] = defaultdict(int)
        for gpu, choice in enumerate(choices):
            alike[choice] |= 1 << gpu
        for choice, gpus in alike.items():
            for nic in _members(choice):
                willing[nic] |= gpus
        unsettled = sum(alike.values())
        for gpu, choice in enumerate(choices):
            unsettled ^= 1 << gpu
            self._first_choices(gpu, choice, choices, willing, unsettled, locked)
        return [list(_members(taken)) for taken in self.taken]

    def _even_out(self, choices: Sequence[int], locked: int) -> None:
        """Hand GPUs on from NIC to NIC as long as that takes one from a fuller to one emptier by two or more."""
        improved = True
        while improved:
            improved = False
            emptiest = min(self.load, default=0)
            for nic in [nic for nic, load in enumerate(self.load) if load >= emptiest + 2 and not locked >> nic & 1]:
                improved |= self._relieve(nic, choices)

    def _relieve(self, fuller: int, choices: Sequence[int]) -> bool:
        """Take one GPU off a NIC, if a path leads to one that is emptier by two or more."""
        came_from: dict[int, tuple[int, int]] = {}
        seen, queue = 1 << fuller, [fuller]
        for nic in queue:
            for gpu in _members(self.holders[nic]):
                if not choices[gpu] >> nic & 1:
                    continue
                for other in _members(choices[gpu] & ~self.taken[gpu] & ~seen):
                    seen |= 1 << other
                    came_from[other] = (gpu, nic)
                    queue.append(other)
        emptier = min(came_from, key=lambda nic: (self.load[nic], nic), default=fuller)
        if self.load[emptier] > self.load[fuller] - 2:
            return False
        while emptier != fuller:
            gpu, nic = came_from[emptier]
            self.drop(gpu, nic)
            self.take(gpu, emptier)
            emptier = nic
        return True

    def _may_have(self, wanted: int, unsettled: int) -> bool:
        """Whether one of these NICs has a GPU that may move on, or is not among the fullest; else none can be had."""
        fullest = max(load for load, nics in self.of_load.items() if nics)
        return bool(wanted & ~self.of_load[fullest]) or any(self.holders[nic] & unsettled for nic in _members(wanted))

    def _first_choices(
        self, gpu: int, choice: int, choices: Sequence[int], willing: Sequence[int], unsettled: int, locked: int
    ) -> None:
        """Give a GPU the first NICs that leave the unsettled ones an answer with loads that are as even.

        The sets of NICs that it can have are the bases of a matroid, as those of flows of least cost are (Murota:
        Discrete Convex Analysis, 9). So each of its NICs is given up once, the last one first, for the first that can
        be had for it: a later exchange makes none possible that comes before what was kept or taken.
        """
        for given_up in reversed(list(_members(self.taken[gpu] & choice))):
            wanted = choice & ~self.taken[gpu] & ((1 << given_up) - 1)
            if not self._may_have(wanted, unsettled):
                continue
            exchange = _Exchange(self, given_up, choices, (willing, unsettled), locked)
            if better := exchange.possible & wanted:
                self.drop(gpu, given_up)
                exchange.make(gpu, next(_members(better)))


class _Exchange:
    """What can be had for a NIC that one GPU gives up, while the loads stay the same, or only change places.

    Attributes:
        possible: the NICs that the GPU can be put on.
    """

    def __init__(
        self,
        state: _Assignment,
        given_up: int,
        choices: Sequence[int],
        willing: tuple[Sequence[int], int],
        locked: int,
    ) -> None:
        """Look for all of it.

        Args:
            state: where it is given up.
            given_up: the NIC.
            choices: of each GPU the NICs that it may give up or take.
            willing: of each NIC the GPUs that may take it; and the GPUs that are not settled, which alone do.
            locked: the NICs whose load must stay as it is.
        """
        self._state = state
        self._choices = choices
        self._willing, self._unsettled = willing
        self._given_up = given_up
        # From each NIC that leads to the one that is given up: who moves on, and where to.
        self._onward: dict[int, tuple[int, int]] = {}
        leading = self._lead_to(1 << given_up, 0)
        # One of these can have one GPU less, and another that has just as many then, one more.
        self._relieved = {state.load[nic] - 1: nic for nic in _members(leading & ~locked)}
        others = reduce(or_, [state.of_load[load] for load in self._relieved], 0)
        self.possible = leading | self._lead_to(others & ~locked & ~leading, leading)

    def _lead_to(self, ends: int, known: int) -> int:
        """Find all NICs from which GPUs can be moved on, one to the place of the next, up to one of the ends."""
        found, queue = ends | known, list(_members(ends))
        asked = 0  # the GPUs whose NICs are all found
        for nic in queue:
            movable = self._willing[nic] & self._unsettled & ~self._state.holders[nic] & ~asked
            asked |= movable
            for gpu in _members(movable):
                for other in _members(self._state.taken[gpu] & self._choices[gpu] & ~found):
                    found |= 1 << other
                    self._onward[other] = (gpu, nic)
                    queue.append(other)
        return found

    def make(self, gpu: int, nic: int) -> None:
        """Put the GPU, which has given up its NIC, on another one."""
        self._state.take(gpu, nic)
        end = self._move_on(nic)
        if end != self._given_up:
            self._move_on(self._relieved[self._state.load[end] - 1])

    def _move_on(self, nic: int) -> int:
        """Move one GPU off a NIC to the next, one off that one, and so on; the NIC where that ends."""
        while nic in self._onward:
            gpu, target = self._onward[nic]
            self._state.drop(gpu, nic)
            self._state.take(gpu, target)
            nic = target
        return nic


class _CheapestFlow(_Assignment):
    """An assignment of the least sum of distances, in which each NIC carries a limited number of GPUs.

    Attributes:
        distances: of each GPU to each NIC.
        limit: how many GPUs a NIC carries at most.
        gpu_price, nic_price: the flow's potentials. No GPU gains by taking a NIC, or giving one up, at these prices.
    """

    def __init__(self, distances: Distances, each: int) -> None:
        nics = _width(distances)
        super().__init__(len(distances), nics)
        self.distances = distances
        # GPUs of one switch have equal rows: what is found out of a row, at the prices of the moment, is kept.
        numbers: dict[tuple[int, ...], int] = {}
        self._row = [numbers.setdefault(row, len(numbers)) for row in map(tuple, distances)]
        self._least: dict[int, int] = {}
        self._tight: dict[tuple[int, int], int] = {}
        self.limit = -(-len(distances) * each // max(1, nics))
        self.gpu_price: dict[int, int] = {}
        self.nic_price = [0] * nics

    def _loss(self, gpu: int, nic: int) -> int:
        return self.distances[gpu][nic] + self.gpu_price[gpu] - self.nic_price[nic]

    def _first_price(self, gpu: int) -> int:
        """The price at which a GPU gains by no NIC, and loses by none that is cheapest for it."""
        row = self._row[gpu]
        if row not in self._least:
            self._least[row] = -min(map(int.__sub__, self.distances[gpu], self.nic_price))
        return self._least[row]

    def _free_of_loss(self, gpu: int) -> int:
        """The NICs that a GPU takes or gives up without loss at these prices."""
        row, own = self._row[gpu], self.gpu_price[gpu]
        if (row, own) not in self._tight:
            losses = map(int.__sub__, self.distances[gpu], self.nic_price)
            self._tight[row, own] = _mask([nic for nic, loss in enumerate(losses) if loss == -own])
        return self._tight[row, own]

    def add(self, gpu: int) -> None:
        """Give a GPU one more NIC, moving others on where that is cheapest: Dijkstra's search from it to a free NIC."""
        if gpu not in self.gpu_price:
            self.gpu_price[gpu] = self._first_price(gpu)
        at_once = self._free_of_loss(gpu) & ~self.taken[gpu] & ~self.of_load[self.limit]
        if at_once:  # what the search would find first
            self.take(gpu, next(_members(at_once)))
            return
        came_from: dict[int, tuple[int, int]] = {}
        reached_gpus, reached_nics = {gpu: 0}, dict[int, int]()
        heap: list[tuple[int, int]] = []
        self._reach(gpu, 0, -1, reached_nics, came_from, heap)
        while True:
            cost, nic = heappop(heap)
            if cost > reached_nics[nic]:
                continue
            if self.load[nic] < self.limit:
                break
            for holder in _members(self.holders[nic]):
                # Giving up a NIC loses what taking it won: not below nothing, at these prices.
                through = cost - self._loss(holder, nic)
                if holder not in reached_gpus or through < reached_gpus[holder]:
                    reached_gpus[holder] = through
                    self._reach(holder, through, nic, reached_nics, came_from, heap)
        self._reprice(cost, reached_gpus, reached_nics)
        while nic >= 0:
            holder, before = came_from[nic]
            self.take(holder, nic)
            if before >= 0:
                self.drop(holder, before)
            nic = before

    def _reprice(self, cost: int, reached_gpus: dict[int, int], reached_nics: dict[int, int]) -> None:
        """Let the prices follow a search that found a free NIC at a cost, so that no loss is below nothing again."""
        if not cost:
            return
        self._least.clear()
        self._tight.clear()
        for gpu, spent in reached_gpus.items():
            self.gpu_price[gpu] -= max(0, cost - spent)
        for nic, spent in reached_nics.items():
            self.nic_price[nic] -= max(0, cost - spent)

    def _reach(
        self,
        gpu: int,
        spent: int,
        nic: int,
        reached: dict[int, int],
        came_from: dict[int, tuple[int, int]],
        heap: list[tuple[int, int]],
    ) -> None:
        """Look at the NICs that a GPU could take, if it gives up one (or none: -1)."""
        start = spent + self.gpu_price[gpu]
        row, prices, taken = self.distances[gpu], self.nic_price, self.taken[gpu]
        for other, price in enumerate(prices):
            cost = start + row[other] - price
            if (other not in reached or cost < reached[other]) and not taken >> other & 1:
                reached[other] = cost
                came_from[other] = (gpu, nic)
                heappush(heap, (cost, other))

    def settled_among_equals(self) -> list[list[int]]:
        """Even out and break ties among the assignments that cost as little.

        These are all that differ from this one by what costs nothing at the flow's prices (complementary slackness).
        """
        choices = [self._free_of_loss(gpu) for gpu in range(len(self.distances))]
        return self.settled(choices, _mask([nic for nic, price in enumerate(self.nic_price) if price < 0]))
