"""What watches: sources, journal, sinks; history and queries."""
