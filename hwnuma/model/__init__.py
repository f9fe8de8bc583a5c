"""The frozen values that everything passes around. No I/O."""
