"""Where samples come from: each source follows one thing and hands on batches of samples."""
