"""Tests on a machine that has NVIDIA GPUs, with its own driver. Elsewhere they are skipped."""
