"""Shared by all packages: files, locks, hashes, seeds, environment variables, the artifact cache."""
