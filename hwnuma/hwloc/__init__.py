"""The only door to libhwloc."""
