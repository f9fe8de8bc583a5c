"""User code that type checkers read: what they shall accept, and what they shall refuse."""
