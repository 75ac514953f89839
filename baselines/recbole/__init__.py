"""RecBole's sequential models as recommenders: RecBole trains and scores, the harness evaluates.

RecBole needs process-wide patches, so it runs in a child process (`worker`) and is never imported here.
"""
