"""Real launchers, started for real: each worker tells where it runs."""
