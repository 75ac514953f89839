"""A run made by several processes."""
