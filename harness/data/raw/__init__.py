"""Prepares known data sets from their public raw files; `releases.yaml` describes the releases."""
