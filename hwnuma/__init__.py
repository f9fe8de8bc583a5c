"""hwnuma: put every worker process on the CPUs (and memory) next to its GPU."""
