"""``torchrun --logs-specs=hwnuma``: plan every rank in the launcher, through torch's own plug-in for log files.

torch asks such a plug-in, in the launcher and before a worker starts, at first and at every restart, where the workers'
logs go (`LogsSpecs.reify`), and passes it the environment of every worker, to write into (torch 2.13:
torch/distributed/elastic/multiprocessing/api.py, PContext). No CUDA is touched there.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, LogsDest

from hwnuma.errors import warn
from hwnuma.integrations.places import Places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.model.forms import NumaOptionsLike


class HwnumaLogsSpecs(DefaultLogsSpecs):
    """torch's own logs, and a place for each rank in its environment: ``LaunchConfig(logs_specs=HwnumaLogsSpecs())``.

    It binds nobody: a worker has to start by ``hwnuma exec``, ``hwnuma-python`` or `hwnuma.integrations.torch`. Each
    of them finds its place there and plans nothing. Options are the ``HWNUMA_…`` variables of the launcher.

    Args:
        options: NumaOptions (ours or torch's) or an affinity mode, instead of those from the environment.
        arguments: as for torch's DefaultLogsSpecs.
    """

    def __init__(self, *, options: NumaOptionsLike | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._options = options
        self._printed = ""

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Plan, print the plan on standard error, write each rank's place into its environment; then as torch does.

        Raises:
            HwnumaError: a rank cannot be placed; no worker has been started, and none is.
        """
        places = Places.of(len(envs), os.environ, self._options)
        self._print(str(places.plan))
        places.check()
        for local_rank, environment in envs.items():
            environment.update(places.variables(local_rank, environment), **dict.fromkeys(places.spent, ""))
        return super().reify(envs)

    def _print(self, text: str) -> None:
        """Print the plan; at a restart only if it is another one."""
        if text != self._printed:
            print(text, file=sys.stderr, flush=True)
        self._printed = text


class TorchrunLogsSpecs(HwnumaLogsSpecs):
    """What ``torchrun --logs-specs=hwnuma`` names: it also makes torchrun start the workers with ``hwnuma-python``.

    torchrun reads ``PYTHON_EXEC`` after it has made this object (torch/distributed/run.py, config_from_args). If it is
    set already, or with ``--no-python``, the user's own command has to bind.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        program = hwnuma_python()
        if program is not None:
            os.environ.setdefault("PYTHON_EXEC", program)
        else:
            warn("hwnuma-python is not found: start the workers with --no-python hwnuma exec -- python …")


def hwnuma_python() -> str | None:
    """The path of the program hwnuma-python: of this Python, or else from PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "hwnuma-python"
    return str(beside) if beside.exists() else shutil.which("hwnuma-python")
