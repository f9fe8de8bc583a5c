"""Measuring on this machine: memory bandwidth and latency by NUMA node, and what binding gives."""
