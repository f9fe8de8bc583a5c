"""Wheels and source distributions: really built, and really installed where they have to work."""
