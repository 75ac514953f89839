"""Known data sets from their public raw files: what is known of them is data (`releases.toml`), the steps are code."""
