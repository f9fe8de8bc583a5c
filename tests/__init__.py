"""hwnuma's tests: one file a module; real kernels in vm/, real launchers in launchers/."""
