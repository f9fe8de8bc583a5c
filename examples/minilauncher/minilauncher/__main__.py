"""``python -m minilauncher [--mode MODE] [--ranks N] COMMAND…``."""

import argparse
import sys

from minilauncher import launch

parser = argparse.ArgumentParser(prog="python -m minilauncher")
parser.add_argument("--mode", default="exclusive")
parser.add_argument("--ranks", type=int)
parser.add_argument("command", nargs=argparse.REMAINDER)
arguments = parser.parse_args()
sys.exit(not launch(arguments.command, mode=arguments.mode, ranks=arguments.ranks))
