"""``hwnuma-python``: bind this process, then become the Python that hwnuma is installed for.

For launchers that start an interpreter which can be chosen: ``PYTHON_EXEC=hwnuma-python torchrun train.py``. It has no
options of its own, so that all arguments are Python's; the options of ``hwnuma exec`` come from ``HWNUMA_…`` variables.
"""

from __future__ import annotations

import sys

from hwnuma.cli.start import end_on_interrupt
from hwnuma.cli.start import main as hwnuma

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Bind, and become Python with these arguments.

    Args:
        arguments: Python's; by default those of this process.

    Returns:
        Only if that fails: the exit status that ``hwnuma exec`` has then. The reason is on standard error.
    """
    if arguments is None:
        end_on_interrupt()
    if not sys.executable:
        from hwnuma.cli.output import complain

        complain("hwnuma-python: this Python does not know its own path (sys.executable is empty)")
        return 126  # as a shell has it for what it cannot run
    return hwnuma(["exec", "--", sys.executable, *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
