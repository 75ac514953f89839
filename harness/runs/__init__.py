"""One run: its configuration, its execution, its record."""
