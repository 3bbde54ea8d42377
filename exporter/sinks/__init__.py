"""Where samples go beside the journal."""
