"""Where samples come from: each source is an async generator of batches of samples."""
