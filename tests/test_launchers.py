"""hwnuma.environment.local_rank: who this process is among the ranks of its machine, from launchers' variables."""

from __future__ import annotations

import pytest

from hwnuma.environment.local_rank import VARIABLES, LocalRank, local_rank_of, local_world_size
from hwnuma.errors import LocalRankError

# Each launcher's own environment for local rank 2 of 4, and the variable that is to be believed. Taken from the
# launchers' documentation; the real Open MPI, MPICH and Slurm are asked in tests/launchers.
LAUNCHERS = {
    "hwnuma": ({"HWNUMA_LOCAL_RANK": "2", "HWNUMA_LOCAL_WORLD_SIZE": "4"}, "HWNUMA_LOCAL_RANK"),
    "torchrun": ({"LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "4", "RANK": "6", "WORLD_SIZE": "8"}, "LOCAL_RANK"),
    "Open MPI": (
        {
            "OMPI_COMM_WORLD_LOCAL_RANK": "2",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
            "OMPI_COMM_WORLD_RANK": "6",
            "OMPI_COMM_WORLD_SIZE": "8",
            "PMIX_RANK": "6",
        },
        "OMPI_COMM_WORLD_LOCAL_RANK",
    ),
    "MPICH": ({"MPI_LOCALRANKID": "2", "MPI_LOCALNRANKS": "4", "PMI_RANK": "6", "PMI_SIZE": "8"}, "MPI_LOCALRANKID"),
    "PMI": ({"PMI_LOCAL_RANK": "2", "PMI_LOCAL_SIZE": "4", "PMI_RANK": "6"}, "PMI_LOCAL_RANK"),
    "MVAPICH2": (
        {"MV2_COMM_WORLD_LOCAL_RANK": "2", "MV2_COMM_WORLD_LOCAL_SIZE": "4", "MV2_COMM_WORLD_RANK": "6"},
        "MV2_COMM_WORLD_LOCAL_RANK",
    ),
    "PALS": ({"PALS_LOCAL_RANKID": "2", "PALS_LOCAL_SIZE": "4", "PALS_RANKID": "6"}, "PALS_LOCAL_RANKID"),
    "Flux": (
        {"FLUX_TASK_LOCAL_ID": "2", "FLUX_JOB_SIZE": "4", "FLUX_JOB_NNODES": "1", "FLUX_TASK_RANK": "2"},
        "FLUX_TASK_LOCAL_ID",
    ),
    "Slurm": (
        {"SLURM_LOCALID": "2", "SLURM_PROCID": "6", "SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"},
        "SLURM_LOCALID",
    ),
    "jsrun": (
        {"JSM_NAMESPACE_LOCAL_RANK": "2", "JSM_NAMESPACE_LOCAL_SIZE": "4", "JSM_NAMESPACE_RANK": "6"},
        "JSM_NAMESPACE_LOCAL_RANK",
    ),
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_each_launcher_tells_rank_and_size(launcher: str) -> None:
    """The local rank and the local size are taken, not the job's own rank and size."""
    environment, variable = LAUNCHERS[launcher]
    assert local_rank_of(environment) == LocalRank(2, 4, variable)
    assert local_world_size(environment) == 4


def test_the_table_has_a_test_for_every_launcher() -> None:
    """Nobody is added to the table without a line above."""
    assert {variable for _, variable in LAUNCHERS.values()} == {variables.rank for variables in VARIABLES}


def test_no_variable_at_all_is_an_error_with_the_remedy() -> None:
    """The message lists what was looked for and says how to tell the rank."""
    with pytest.raises(LocalRankError) as raised:
        local_rank_of({"RANK": "3", "PATH": "/bin"})
    for variables in VARIABLES:
        assert variables.rank in str(raised.value)
    assert "--local-rank N" in str(raised.value)


def test_an_empty_variable_counts_as_none() -> None:
    """A variable that a script has emptied says nothing."""
    assert local_rank_of({"LOCAL_RANK": "", "SLURM_LOCALID": "1"}).variable == "SLURM_LOCALID"


@pytest.mark.parametrize("value", ["one", "-1", "1.0", "0x1", "\u0661", "1 2", "9999999999"])
def test_a_rank_that_is_no_number_is_an_error(value: str) -> None:
    """The message names the variable and shows its value."""
    with pytest.raises(LocalRankError, match="LOCAL_RANK=") as raised:
        local_rank_of({"LOCAL_RANK": value})
    assert repr(value) in str(raised.value)


def test_white_space_around_a_number_is_tolerated() -> None:
    """A script's `export LOCAL_RANK=" 3"` is a 3."""
    assert local_rank_of({"LOCAL_RANK": " 3\n"}).rank == 3


@pytest.mark.parametrize(("name", "value"), [("LOCAL_WORLD_SIZE", "0"), ("LOCAL_WORLD_SIZE", "two")])
def test_a_size_that_makes_no_sense_is_an_error(name: str, value: str) -> None:
    """A machine runs at least one rank; the message names the variable."""
    with pytest.raises(LocalRankError, match=name):
        local_rank_of({"LOCAL_RANK": "0", name: value})


def test_a_rank_beyond_the_size_is_an_error() -> None:
    """Both are named, and which ranks there can be."""
    with pytest.raises(LocalRankError, match="LOCAL_RANK=4, but LOCAL_WORLD_SIZE=4: ranks run from 0 to 3"):
        local_rank_of({"LOCAL_RANK": "4", "LOCAL_WORLD_SIZE": "4"})


# ---- several launchers at once -------------------------------------------------------------------------------


def test_what_is_said_to_hwnuma_goes_before_all() -> None:
    """HWNUMA_LOCAL_RANK is an override, and contradicting it is no mistake."""
    rank = local_rank_of({"HWNUMA_LOCAL_RANK": "1", "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4", "SLURM_LOCALID": "2"})
    assert rank == LocalRank(1, 4, "HWNUMA_LOCAL_RANK")


def test_a_size_that_cannot_hold_the_rank_is_another_launchers() -> None:
    """Beside a rank that is set by hand, a size that is too small for it belongs to somebody else."""
    rank = local_rank_of({"HWNUMA_LOCAL_RANK": "2", "SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1"})
    assert rank.size is None


def test_torchrun_inside_one_slurm_task_a_node_is_no_contradiction() -> None:
    """Slurm's one task of the node starts torchrun, which starts the ranks."""
    environment = {
        "SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x4)", "SLURM_NODEID": "3",
        "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "8",
    }  # fmt: skip
    assert local_rank_of(environment) == LocalRank(3, 8, "LOCAL_RANK")


def test_torchrun_in_a_batch_script_is_no_contradiction() -> None:
    """In the script of `sbatch`, Slurm says local id 0 and tells no step."""
    batch = {"SLURM_LOCALID": "0", "SLURM_TASKS_PER_NODE": "8"}
    assert local_rank_of({**batch, "LOCAL_RANK": "5", "LOCAL_WORLD_SIZE": "8"}) == LocalRank(5, 8, "LOCAL_RANK")


def test_a_contradiction_is_told_with_both_variables() -> None:
    """Two launchers that each started several ranks and differ: the inner one is taken, and it is said."""
    rank = local_rank_of({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "3"})
    assert (rank.rank, rank.variable) == (1, "LOCAL_RANK")
    assert rank.warnings == ("LOCAL_RANK=1 is taken as the local rank, though OMPI_COMM_WORLD_LOCAL_RANK=3",)


def test_a_zero_of_several_ranks_is_a_contradiction() -> None:
    """Slurm's task 0 of 4 that has LOCAL_RANK=2 in its environment: a stale variable, perhaps exported by a script."""
    rank = local_rank_of({"LOCAL_RANK": "2", "SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "4"})
    assert len(rank.warnings) == 1


def test_agreement_is_not_told_and_lends_its_size() -> None:
    """A script that sets LOCAL_RANK=$SLURM_LOCALID says the same twice, and Slurm knows how many there are."""
    rank = local_rank_of({"LOCAL_RANK": "2", "SLURM_LOCALID": "2", "SLURM_STEP_TASKS_PER_NODE": "4"})
    assert rank == LocalRank(2, 4, "LOCAL_RANK")


def test_disagreement_lends_no_size() -> None:
    """Of a launcher that counts other ranks, the size is not taken either."""
    rank = local_rank_of({"LOCAL_RANK": "2", "SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "4"})
    assert rank.size is None


# ---- sizes of several machines -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "node", "size"),
    [("4", "0", 4), ("4(x3),2", "2", 4), ("4(x3),2", "3", 2), ("1,8", "1", 8), ("4", "1", None), ("4(y2)", "0", None)],
)
def test_slurm_counts_the_tasks_of_each_node(tasks: str, node: str, size: int | None) -> None:
    """SLURM_NODEID picks this node's count from the list; what cannot be read is not known."""
    environment = {"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_NODEID": node}
    assert local_rank_of(environment).size == size


def test_flux_tells_the_size_of_one_node_only() -> None:
    """FLUX_JOB_SIZE counts all nodes' tasks."""
    environment = {"FLUX_TASK_LOCAL_ID": "1", "FLUX_JOB_SIZE": "8", "FLUX_JOB_NNODES": "2"}
    assert local_rank_of(environment).size is None


def test_no_launcher_tells_no_size() -> None:
    """The size is None, not 1: nobody said so."""
    assert local_world_size({"WORLD_SIZE": "8"}) is None


@pytest.mark.parametrize(
    "environment",
    [
        {"LOCAL_WORLD_SIZE": "999999999"},
        {"OMPI_COMM_WORLD_LOCAL_SIZE": "65537"},
        {"SLURM_STEP_TASKS_PER_NODE": "999999", "SLURM_LOCALID": "0"},
        {"LOCAL_WORLD_SIZE": "9" * 5000},
        {"LOCAL_WORLD_SIZE": "²"},
    ],
    ids=lambda environment: next(iter(environment.values()))[:12],
)
def test_a_number_of_ranks_beyond_any_machine_names_the_bound(environment: dict[str, str]) -> None:
    """Nobody has memory allocated by a variable, and int's own errors for digits do not come through."""
    with pytest.raises(LocalRankError, match=r"makes no sense: it is a whole number from [01] to 65536") as raised:
        local_world_size(environment)
    assert len(str(raised.value)) < 200


def test_slurms_list_of_a_million_nodes_costs_nothing() -> None:
    """A list is walked piece by piece, whatever numbers of nodes it claims; a node's number may have any length."""
    claimed = ",".join(["4(x999999)"] * 10_000)
    assert local_world_size({"SLURM_STEP_TASKS_PER_NODE": claimed, "SLURM_NODEID": "999999998"}) == 4
    assert local_world_size({"SLURM_STEP_TASKS_PER_NODE": "4(x2)", "SLURM_NODEID": "1" * 5000}) is None
    assert local_world_size({"SLURM_STEP_TASKS_PER_NODE": "4(x2)", "SLURM_NODEID": "²"}) is None
