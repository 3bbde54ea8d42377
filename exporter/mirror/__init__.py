"""Mirrors: other people's stores that get every sample, read from the journal through a spool on disk."""
