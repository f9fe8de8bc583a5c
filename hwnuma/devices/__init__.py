"""Which devices there are, and which of them a process sees."""
