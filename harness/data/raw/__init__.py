"""Public data sets built from their raw files: releases are described in `releases.yaml`, the steps are code."""
