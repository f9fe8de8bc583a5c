"""A plan, a machine or a verification as data, as text, and in other programs' words."""
