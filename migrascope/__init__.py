"""The front door: the command line, nothing but parsing, calling and passing in."""
