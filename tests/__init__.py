"""The tests: real parts by default."""
