"""Known data sets from their public raw files: what is known of them is data (`releases.yaml`), the steps are code."""
