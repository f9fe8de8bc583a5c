"""Ctrl-C ends a command as it ends any other program: by the signal, and without a traceback.

Python turns SIGINT into KeyboardInterrupt wherever the program is, in the midst of an import too. Most commands have
nothing to put back, so `hwnuma.cli.start` lets the signal end them at once. `hwnuma bind` has: others' threads.
"""

from __future__ import annotations

import os
from signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal


class UndoneFirst:
    """A with block in which SIGINT is a KeyboardInterrupt: what is half done is undone before the process ends.

    Where SIGINT would not end the process (it is ignored, or the program that this is part of handles it), that stays.
    """

    def __enter__(self) -> None:
        self._ends_process = getsignal(SIGINT) == SIG_DFL
        if self._ends_process:
            signal(SIGINT, default_int_handler)

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if self._ends_process:
            signal(SIGINT, SIG_DFL)
            if kind is KeyboardInterrupt:
                os.kill(os.getpid(), SIGINT)
