"""Fuzzing of all that reads what others wrote: ``python -m tests.fuzz --minutes 2 --seed 16`` (docs/developers/fuzzing.md)."""
