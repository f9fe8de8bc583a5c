"""Whole machines kept in files: what is saved beside a topology, and what of it counts elsewhere."""
