"""``python -m hwnuma``: the same as the command ``hwnuma``."""

import sys

from hwnuma.cli.main import main

sys.exit(main())
