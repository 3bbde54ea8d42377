"""What runs in the guest, the language it speaks on the console, and how that is followed."""
