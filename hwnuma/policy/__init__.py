"""The arithmetic, pure: from a machine and its GPUs to a plan."""
