"""Makes a child of a test see the test's machine; Python imports it at its start (`FakeMachine.environment`)."""

import os
import sys
from importlib import machinery, util
from pathlib import Path

_FOLDER = os.environ.get("_HWNUMA_TESTING_MACHINE")
_HERE = Path(__file__).resolve().parent

if _FOLDER and Path(_FOLDER).is_dir():
    try:
        from hwnuma.testing.fake_machine import take_over_from_parent
    except ModuleNotFoundError:  # a Python without hwnuma
        pass
    else:
        take_over_from_parent(_FOLDER)

# What would have been imported under this name.
_others = [folder for folder in sys.path if Path(folder).resolve() != _HERE]
_found = machinery.PathFinder.find_spec("sitecustomize", _others)
if _found is not None and _found.loader is not None:
    _found.loader.exec_module(util.module_from_spec(_found))
