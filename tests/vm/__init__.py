"""Tests on a Linux kernel that really has several NUMA nodes: QEMU guests on this machine's files."""
