"""Which GPUs are visible: every row of the table, what holds for all lists, and the document."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hwnuma.devices.pci import VENDORS
from hwnuma.devices.visible import ORDER_VARIABLES, VISIBLE_DEVICES, Visible, visible_gpus
from hwnuma.errors import GpuNotFoundError, OptionError
from hwnuma.model.gpu import Gpu
from tests.visible_devices import (
    BEGIN,
    CVD,
    DOCUMENT,
    END,
    HIP,
    MACHINES,
    MIG_UUIDS,
    ROCR,
    ROWS,
    SOURCES,
    UUIDS,
    ZE,
    Machine,
    Row,
    markdown,
)

FLAT = "ZE_FLAT_DEVICE_HIERARCHY"
FOUR, MIG, AMD, INTEL = (MACHINES[name].gpus for name in ("four", "mig", "amd", "intel"))


def indices(visible: Visible) -> tuple[int, ...]:
    """The indices of the visible GPUs, in order."""
    return tuple(gpu.index for gpu in visible.gpus)


def cuda(value: str, gpus: Sequence[Gpu] = FOUR) -> tuple[int, ...]:
    """The indices that a CUDA_VISIBLE_DEVICES makes visible."""
    return indices(visible_gpus(gpus, {CVD: value}))


# --- The table ----------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_table(row: Row) -> None:
    """Each row's GPUs come in the documented order, with the warning that the row announces and no other."""
    machine = MACHINES[row.machine]
    if not isinstance(row.answer, tuple):
        with pytest.raises(row.answer):
            visible_gpus(machine.gpus, row.environment, machine.vendor)
        return
    visible = visible_gpus(machine.gpus, row.environment, machine.vendor)
    assert indices(visible) == row.answer
    assert [row.warns in warning for warning in visible.warnings] == ([True] if row.warns else [])


@pytest.mark.parametrize("row", [row for row in ROWS if isinstance(row.answer, tuple)], ids=lambda row: row.name)
def test_strict(row: Row) -> None:
    """Strict mode refuses exactly the rows whose order cannot be known, and answers the others alike."""
    machine = MACHINES[row.machine]
    if row.ambiguous:
        with pytest.raises(OptionError, match="CUDA_DEVICE_ORDER=PCI_BUS_ID"):
            visible_gpus(machine.gpus, row.environment, machine.vendor, strict=True)
    else:
        assert indices(visible_gpus(machine.gpus, row.environment, machine.vendor, strict=True)) == row.answer


def test_table_is_large_and_sourced() -> None:
    """The table has at least forty rows, no setting twice, and a known source for each."""
    assert len(ROWS) >= 40
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert {row.source for row in ROWS} == set(SOURCES)
    assert {MACHINES[row.machine].vendor for row in ROWS} == set(VENDORS)


def test_document_is_in_step() -> None:
    """The table in docs/explanation/visible-devices.md is the one that is tested (python -m tests.visible_devices writes it)."""
    text = DOCUMENT.read_text()
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip() == markdown()


# --- Single facts ---------------------------------------------------------------------------------


def test_variable_and_value() -> None:
    """The answer names the variable that decided, for messages; with two of AMD's, the last one."""
    assert visible_gpus(FOUR, {}) == Visible(FOUR)
    assert visible_gpus(FOUR, {CVD: "1"}) == Visible((FOUR[1],), variable=CVD, value="1")
    amd = visible_gpus(AMD, {ROCR: "1,2", HIP: "1", CVD: "0"}, "amd")
    assert (amd.variable, amd.value) == (HIP, "1")


def test_unknown_vendor() -> None:
    """A vendor that does not exist is an error that lists the known ones."""
    with pytest.raises(OptionError, match="nvidia, amd, intel"):
        visible_gpus(FOUR, {}, "voodoo")


def test_other_vendors_variables_are_not_read() -> None:
    """Each vendor's GPUs are hidden by its own variables alone, whatever else is set."""
    assert indices(visible_gpus(FOUR, {ROCR: "0", HIP: "1", ZE: "2", "NVIDIA_VISIBLE_DEVICES": "3"})) == (0, 1, 2, 3)
    assert indices(visible_gpus(INTEL, {CVD: "0", ROCR: "1"}, "intel")) == (0, 1, 2, 3)
    assert indices(visible_gpus(AMD, {ZE: "1"}, "amd")) == (0, 1, 2, 3)


@pytest.mark.parametrize(("vendor", "variable"), [("nvidia", CVD), ("amd", ROCR), ("amd", HIP)])
def test_uuids_that_nobody_knows(vendor: str, variable: str) -> None:
    """UUIDs on a machine whose GPUs have none known are an error that says what to do."""
    with pytest.raises(GpuNotFoundError, match=r"GPU-8932f937 names GPUs by UUID.*take the GPUs from NVML"):
        visible_gpus(MACHINES["saved"].gpus, {variable: "GPU-8932f937"}, vendor)


def test_without_gpus_nothing_is_visible() -> None:
    """On a machine without GPUs every list is empty, and names of GPUs are no error."""
    assert cuda("GPU-8932f937", ()) == cuda("0,1", ()) == indices(visible_gpus((), {})) == ()
    (warning,) = visible_gpus((), {CVD: "0,1"}).warnings
    assert warning.endswith("which is no GPU's index here")


def test_gap_left_by_a_gpu_that_cannot_be_used() -> None:
    """An index counts as nvidia-smi does, over a GPU that MIG mode without instances takes away."""
    gpus = (FOUR[0], Gpu(1, "0000:03:00.0", UUIDS[2], device_index=2))
    assert cuda("2,0", gpus) == (1, 0)
    assert cuda("0,1,2", gpus) == (0,)


def test_each_rank_of_a_mig_job_sees_its_instance() -> None:
    """One variable a rank, each with its own instance: no warning, and the instances in turn."""
    seen = [visible_gpus(MIG, {CVD: uuid}) for uuid in MIG_UUIDS]
    assert [indices(visible) for visible in seen] == [(0,), (1,)]
    assert [visible.warnings for visible in seen] == [(), ()]


# --- What holds for every list ----------------------------------------------------------------------

ODD = [
    "-1",
    "+2",
    " 1",
    "1 ",
    "0x1",
    "1gpu",
    "",
    " ",
    "x",
    "0.0",
    "1.1",
    "GPU-",
    "MIG-",
    "GPU-8",
    "GPU-8932",
    "GPU-9e07",
]
NAMED = [*UUIDS, *MIG_UUIDS, "GPU-2b9d1f0a4c6e8d01", "MIG-89", "MIG-f2b5", f"MIG-{UUIDS[0]}/1/0"]
PIECES = st.sampled_from(["0", "1", "2", "3", "4", *ODD, *NAMED])
LISTS = st.one_of(st.lists(PIECES, max_size=6).map(",".join), st.text("0123,,-+. xGPUMI\u0661", max_size=12))
NAMES = st.sampled_from([CVD, ROCR, HIP, ZE, "CUDA_DEVICE_ORDER", "ZE_FLAT_DEVICE_HIERARCHY"])
ENVIRONMENTS = st.dictionaries(NAMES, LISTS, max_size=4)


@pytest.mark.parametrize(("length", "cut"), [(700, ""), (701, "…")])
def test_a_list_is_repeated_up_to_700_characters(length: int, cut: str) -> None:
    """It may be as long as an environment; what a warning repeats of it is not."""
    value = "x,".ljust(length, "y")
    (warning,) = visible_gpus(FOUR, {CVD: value}).warnings
    assert warning.startswith(f"{CVD}={value[:700]}{cut}: the list ends before 'x', which ")


# How long an example takes says more about the machine's load than about the code.
properties = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
KNOWN = st.sampled_from([machine for name, machine in MACHINES.items() if name != "saved"])


@properties
@given(KNOWN, ENVIRONMENTS)
def test_never_invents_or_repeats(machine: Machine, environment: dict[str, str]) -> None:
    """Whatever is set, the answer is some of the machine's GPUs, none twice; and never an exception."""
    vendor, gpus, _ = machine
    visible = visible_gpus(gpus, environment, vendor)
    assert set(visible.gpus) <= set(gpus)
    assert len(set(visible.gpus)) == len(visible.gpus)
    assert visible.value == (None if visible.variable is None else environment[visible.variable])


@properties
@given(st.permutations(range(4)), st.integers(0, 4))
def test_order_follows_the_list(order: list[int], length: int) -> None:
    """Any selection of indices in any order comes back as it was written; by UUID just the same."""
    chosen = tuple(order[:length])
    assert cuda(",".join(map(str, chosen))) == chosen
    assert cuda(",".join(UUIDS[index] for index in chosen)) == chosen
    assert indices(visible_gpus(AMD, {ROCR: ",".join(map(str, chosen))}, "amd")) == chosen


@properties
@given(st.permutations(range(4)), st.integers(0, 4), st.sampled_from(["-1", "4", "x", "", "GPU-8932"]), LISTS)
def test_nothing_counts_after_an_invalid_entry(order: list[int], place: int, invalid: str, rest: str) -> None:
    """A list that is cut off before its first invalid entry means the same as the whole."""
    assume(place > 0 or not invalid.startswith("GPU-"))  # there it would begin a list of UUIDs
    before = [str(index) for index in order[:place]]
    assert cuda(",".join([*before, invalid, rest])) == tuple(order[:place])


@properties
@given(st.permutations(range(4)), st.integers(1, 4), st.data())
def test_a_repetition_empties_the_list(order: list[int], length: int, data: st.DataObject) -> None:
    """A valid index that comes again anywhere later in the list hides every GPU."""
    chosen = order[:length]
    again = data.draw(st.sampled_from(chosen))
    at = data.draw(st.integers(chosen.index(again) + 1, length))
    assert cuda(",".join(map(str, [*chosen[:at], again, *chosen[at:]]))) == ()


@properties
@given(st.sampled_from(range(4)), st.integers(len("GPU-"), len(UUIDS[0])))
def test_prefix_of_a_uuid(index: int, length: int) -> None:
    """The beginning of a UUID means its GPU if no other UUID begins so, and nothing otherwise."""
    beginning = UUIDS[index][:length]
    alone = sum(uuid.startswith(beginning) for uuid in UUIDS) == 1
    assert cuda(beginning) == ((index,) if alone else ())


@properties
@given(LISTS)
def test_mask_is_a_set(value: str) -> None:
    """A ZE_AFFINITY_MASK means the same backwards, and its GPUs come in order of index."""
    forwards = indices(visible_gpus(INTEL, {ZE: value}, "intel"))
    backwards = indices(visible_gpus(INTEL, {ZE: ",".join(reversed(value.split(",")))}, "intel"))
    assert forwards == backwards == tuple(sorted(forwards))


@properties
@given(st.permutations(range(4)), st.integers(0, 4), st.permutations(range(4)), st.integers(1, 4))
def test_hip_numbers_what_rocr_left(outer: list[int], left: int, inner: list[int], length: int) -> None:
    """Both of AMD's variables together are the one applied to what the other left."""
    wanted = [position for position in inner[:length] if position < left]
    assume(len(wanted) == length)
    environment = {ROCR: ",".join(map(str, outer[:left])), HIP: ",".join(map(str, wanted))}
    assert indices(visible_gpus(AMD, environment, "amd")) == tuple(outer[position] for position in wanted)


@pytest.mark.parametrize(
    ("vendor", "variable"),
    [
        ("nvidia", "CUDA_VISIBLE_DEVICES"),
        ("amd", "ROCR_VISIBLE_DEVICES"),
        ("amd", "HIP_VISIBLE_DEVICES"),
        ("intel", "ZE_AFFINITY_MASK"),
    ],
)
def test_a_list_longer_than_any_machine_is_refused(vendor: str, variable: str) -> None:
    """Another user's process may have 65,000 entries there; each would be a warning that repeats all of them."""
    gpus = [Gpu(0, "0000:01:00.0")]
    visible_gpus(gpus, {variable: ",".join(["0"] * 1024)}, vendor)
    with pytest.raises(OptionError, match=rf"{variable} is a list of more than 1024 entries"):
        visible_gpus(gpus, {variable: "," * 1024}, vendor)


def test_a_warning_repeats_no_more_of_a_list_than_tells_what_it_is() -> None:
    """One entry of 100,000 characters with an escape code: the warning is short, and printable."""
    seen = visible_gpus([Gpu(0)], {"CUDA_VISIBLE_DEVICES": "0,\x1b[31m" + "x" * 100_000})
    assert len(seen.warnings) == 1
    assert len(seen.warnings[0]) < 1000
    assert seen.warnings[0].isprintable()


def test_a_uuid_of_amds_has_up_to_sixteen_digits() -> None:
    """All of them are its whole, one is its least beginning, and none or one more is no UUID."""
    whole = AMD[3].uuid
    assert whole is not None
    assert len(whole) == len("GPU-") + 16
    for text in (whole, "GPU-c"):
        assert indices(visible_gpus(AMD, {ROCR: text}, "amd")) == (3,)
    for text in (whole + "0", "GPU-", "G"):
        refused = visible_gpus(AMD, {ROCR: text}, "amd")
        assert indices(refused) == ()
        assert "is no UUID" in refused.warnings[0]
        assert "is no UUID of a GPU here" not in refused.warnings[0]


def test_digits_that_c_does_not_read_are_no_number() -> None:
    """A 0 ahead makes a number octal to ROCm's strtol, which has no 8."""
    assert "which is no number" in visible_gpus(AMD, {ROCR: "08"}, "amd").warnings[0]
    assert "which is no GPU's index" in visible_gpus(AMD, {ROCR: "010"}, "amd").warnings[0]


def test_a_number_is_in_the_base_that_its_beginning_says() -> None:
    """As C's strtol reads it in base 0: ROCm's runtime has 017 and 0xf for 15, up to nine digits of any."""
    many = [Gpu(index, f"0000:{index + 1:02x}:00.0") for index in range(17)]
    for text, index in (("15", 15), ("9", 9), ("017", 15), ("010", 8), ("0xf", 15), ("0X10", 16), ("000000017", 15)):
        assert indices(visible_gpus(many, {ROCR: text}, "amd")) == (index,)
    for text, problem in (("100000000", "is no GPU's index here (17 GPUs)"), ("1000000000", "is no number")):
        (warning,) = visible_gpus(many, {ROCR: text}, "amd").warnings
        assert warning.endswith(f"which {problem}")


@pytest.mark.parametrize("variable", [ROCR, HIP])
def test_a_uuid_of_no_gpu_ends_a_list_of_amds(variable: str) -> None:
    """What is behind it is not visible, and somebody is told why."""
    seen = visible_gpus(AMD, {variable: "1,GPU-ffff,2"}, "amd")
    assert indices(seen) == (1,)
    (warning,) = seen.warnings
    assert warning.endswith("the list ends before 'GPU-ffff', which is no UUID of a GPU here")


def test_tiles_are_told_of_where_each_counts() -> None:
    """Unless ZE_FLAT_DEVICE_HIERARCHY says that cards count."""
    hint = "GPUs of several tiles count each tile"
    for more, said in (({}, True), ({FLAT: "FLAT"}, True), ({FLAT: "COMPOSITE"}, False)):
        (warning,) = visible_gpus(INTEL, {ZE: "9", **more}, "intel").warnings
        assert (hint in warning) is said
        assert warning.endswith("is no GPU's index here (4 GPUs)") is not said


def test_a_number_of_ten_digits_is_read_as_no_index_whatever_it_is() -> None:
    """Nine are a number that no GPU has."""
    for text, problem in (("999999999", "is no GPU's index here (the last is 3)"), ("1000000000", "is no GPU's index")):
        (warning,) = visible_gpus(FOUR, {CVD: text}, "nvidia").warnings
        assert warning.endswith(f"which {problem}")


def test_every_variable_that_is_read_is_in_the_tables() -> None:
    """Captures keep those that are."""
    read = {FLAT} | {name for row in ROWS for name in row.environment}
    assert read == {*VISIBLE_DEVICES, *ORDER_VARIABLES}
