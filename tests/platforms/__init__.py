"""hwnuma where it was not written: other Debians with other hwlocs and Pythons, and other processors."""
