"""What runs: bind threads and memory, read back where they are."""
