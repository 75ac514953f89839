"""Many runs: grids, ablations, tuning, and where they are executed."""
