"""Other libraries, each in a process of its own that is told when to do its work once.

So a peer can live in another interpreter, brings its own libhwloc without meeting ours, and still takes its turn round
after round. Standard output: a line of JSON that says what it is, then a line with the seconds for each line of
standard input, which names the work to do.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping

from benchmarks.timing import Timed


def serve(version: str, works: Mapping[str, Timed]) -> None:
    """Do the works that are asked for, until nobody asks any more.

    Args:
        version: the library's.
        works: by name.
    """
    about = {"version": f"{version} (Python {platform.python_version()})", "works": list(works)}
    print(json.dumps(about), flush=True)
    for name in sys.stdin:
        print(works[name.strip()](), flush=True)
