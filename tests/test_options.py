"""NumaOptions: torch's own accepted, values turned into members, nonsense refused."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from hwnuma import AffinityMode, CpuSet, MemoryPolicy, NumaOptions, OptionError
from hwnuma.environment.omp import OmpVariables
from hwnuma.launch.job import Job


def test_the_modes_are_torchs_by_value() -> None:
    """The four values are those of torch.numa.binding.AffinityMode, and members are strings."""
    assert [mode.value for mode in AffinityMode] == ["node", "socket", "exclusive", "core-complex"]
    assert AffinityMode("core-complex") is AffinityMode.CORE_COMPLEX
    assert AffinityMode.NODE == "node"
    assert f"{AffinityMode.NODE}" == "node"


def test_an_unknown_mode_names_the_known_ones() -> None:
    """The error is a ValueError, as torch's is, and lists what there is."""
    with pytest.raises(
        ValueError, match="'l3' is no affinity mode: choose one of node, socket, exclusive, core-complex"
    ):
        AffinityMode("l3")


def test_options_are_values() -> None:
    """Frozen, hashable, picklable, comparable, and a dict for a JSON log."""
    options = NumaOptions(AffinityMode.NODE, memory="bind", reserved_cpus="0-1")
    assert options.memory is MemoryPolicy.BIND
    assert options.reserved_cpus == CpuSet("0-1")
    assert pickle.loads(pickle.dumps(options)) == options
    assert hash(options) == hash(dataclasses.replace(options))
    assert dataclasses.asdict(options)["affinity_mode"] == "node"
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.memory = MemoryPolicy.NONE  # type: ignore[misc]


class _TorchsMode(str):
    """Stands for torch's enumeration: a string with a `value`."""

    @property
    def value(self) -> str:
        return str.__str__(self)


@dataclasses.dataclass(frozen=True)
class _TorchsOptions:
    """torch.numa.binding.NumaOptions, field for field."""

    affinity_mode: _TorchsMode
    should_fall_back_if_binding_fails: bool = False


@pytest.mark.parametrize(
    "given", ["exclusive", AffinityMode.EXCLUSIVE, NumaOptions("exclusive"), _TorchsMode("exclusive")]
)
def test_options_are_taken_in_any_form(given: object) -> None:
    """A value, a member, torch's member and options all mean the same."""
    assert NumaOptions.of(given) == NumaOptions(AffinityMode.EXCLUSIVE)


def test_torchs_own_options_are_taken() -> None:
    """Both of torch's fields come over."""
    taken = NumaOptions.of(_TorchsOptions(_TorchsMode("socket"), should_fall_back_if_binding_fails=True))
    assert taken == NumaOptions(AffinityMode.SOCKET, should_fall_back_if_binding_fails=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ranks_per_gpu": 0},
        {"gpus_per_rank": -1},
        {"threads_per_core": 0},
        {"minimum_cores": -1},
        {"ranks_per_gpu": 2, "gpus_per_rank": 2},
        {"memory": "local"},
        {"divide_among": "some"},
        {"reserved_cpus": "a-b"},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    """A count below its least, two directions at once, and unknown choices."""
    with pytest.raises(OptionError):
        NumaOptions("node", **wrong)


@pytest.mark.parametrize("given", [None, 3, object(), "nodes"])
def test_what_is_no_option_is_refused(given: object) -> None:
    """Neither options nor a mode."""
    with pytest.raises(OptionError):
        NumaOptions.of(given)


@pytest.mark.parametrize("text", ["0", "false", "no", "off"])
def test_no_fallback_can_be_said(text: str) -> None:
    """A variable that some launcher sets is taken back so."""
    assert Job.asked({}, {"HWNUMA_FALLBACK": text}).options == NumaOptions("node")


def test_words_of_a_choice_are_looked_for_as_an_enumerations_are() -> None:
    """By value and by name; other things are none."""
    assert "node" in AffinityMode
    assert 7 not in AffinityMode
    assert AffinityMode["CORE_COMPLEX"] == "core-complex"
    assert [OmpVariables(text) for text in ("1", "true", "0", "false")] == ["set", "set", "off", "off"]
