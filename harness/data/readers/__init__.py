"""Readers, one for each layout: files to a `Dataset`, or an error in one line."""
