"""Measurements at full size, run by hand; what they found stands in docs/."""
