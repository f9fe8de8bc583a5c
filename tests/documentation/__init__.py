"""What the documentation shows is run: each block that a reader would type has a test that types it."""
