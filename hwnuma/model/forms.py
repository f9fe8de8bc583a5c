"""The forms in which callers may give options, for type checkers. Nothing imports this at run time.

A checker so knows the names ("exclusive") and tells a misspelt one, and it takes torch's own objects by their shape,
since torch need not be there.
"""

from __future__ import annotations

from typing import Literal, Protocol

from hwnuma.model.options import AffinityMode, NumaOptions

AffinityModeName = Literal["node", "socket", "exclusive", "core-complex"]
DivideAmongName = Literal["auto", "visible", "all"]
MemoryPolicyName = Literal["none", "preferred", "bind", "interleave"]
UnknownLocalityName = Literal["error", "node0"]
NoAllowedCpusName = Literal["error", "nearest"]
RankOrderName = Literal["block", "round-robin"]


class TorchAffinityMode(Protocol):
    """A member of torch.numa.binding.AffinityMode (torch 2.13), told from other enumerations by a mode of its own."""

    @property
    def value(self) -> str:
        """The mode's name: "node", ..."""
        ...

    @property
    def CORE_COMPLEX(self) -> object:  # noqa: N802 -- as torch names it
        """The mode that no other enumeration has."""
        ...


class TorchNumaOptions(Protocol):
    """torch.numa.binding.NumaOptions (torch 2.13)."""

    @property
    def affinity_mode(self) -> TorchAffinityMode:
        """Which CPUs a rank gets."""
        ...

    @property
    def should_fall_back_if_binding_fails(self) -> bool:
        """Whether a rank that cannot be bound runs unbound."""
        ...


NumaOptionsLike = NumaOptions | AffinityMode | AffinityModeName | TorchNumaOptions | TorchAffinityMode
"""What is taken wherever options are: options, ours or torch's, or an affinity mode, as a member or by its name."""
