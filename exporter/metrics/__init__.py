"""The rows of the catalogue, a file a noun."""
