"""``python -m hwnuma``, or this file as a program: the same as the command ``hwnuma``.

As a program (``python -I …/hwnuma/__main__.py``, see `hwnuma.Binding.wrap`) it finds the package that it is part of.
"""

import sys

if not __package__:
    sys.path.append(__file__.removesuffix("/hwnuma/__main__.py"))  # last: what is installed comes first

from hwnuma.cli.start import main

sys.exit(main())
