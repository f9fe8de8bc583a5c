"""What the exit status says, and how a command that fails says why."""

from __future__ import annotations

from hwnuma.cli.output import complain
from hwnuma.errors import BindingError, HwnumaError, JobError, PlanError

# As in the contract of ``hwnuma plan``; and a shell's two for a command that it cannot run.
DONE, RANK_NOT_PLACED, NOTHING_PLANNED, NOT_EXECUTABLE, NOT_FOUND = 0, 1, 2, 126, 127

# As diff(1) has it, which says the same of two files.
DIFFERENT = 1


def status_of(error: HwnumaError) -> int:
    """The exit status of a command that this error ends: 1 if a rank is not placed or bound, or fails, else 2."""
    return RANK_NOT_PLACED if isinstance(error, (PlanError, BindingError, JobError)) else NOTHING_PLANNED


def fail(where: str, error: Exception, status: int) -> int:
    """Say in one line on standard error why a command failed, and give the exit status on."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    complain(f"{where}: {text}")
    return status
