"""The program of `Binding.wrap` while a test's machine is there: ``hwnuma``, by a Python that looks for no startup.

A wrapped command's Python is isolated, so that PYTHONPATH does not bring it the startup which other children have.
"""

import os
import runpy
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))  # last, as hwnuma/__main__.py does

from hwnuma.testing.children import VARIABLE
from hwnuma.testing.fake_machine import take_over_from_parent

if __name__ == "__main__":
    folder = os.environ.get(VARIABLE)
    if folder and Path(folder).is_dir():
        take_over_from_parent(folder)
    runpy.run_module("hwnuma", run_name="__main__", alter_sys=True)
