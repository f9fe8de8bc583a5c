"""What launchers tell a process and what it is told in turn, pure: the environment is an argument."""
