"""What every room uses: files, locks, hashes, seeds, the environment, caches."""
