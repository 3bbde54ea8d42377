"""What makes migrations happen: values, QEMU processes, strategies and runs."""
