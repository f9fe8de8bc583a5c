"""``python -m hwnuma``: the same as the command ``hwnuma``."""

import sys

from hwnuma.cli import main

sys.exit(main())
