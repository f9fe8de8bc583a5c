"""Mutation testing: small faults, one at a time, in the modules where one would be worst, and the tests that find them."""
