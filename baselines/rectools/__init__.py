"""RecTools' transformer models as recommenders: RecTools builds networks, losses and samples; the harness trains them.

RecTools requires older NumPy and pandas; it runs in a child process (`worker`) and is never imported here.
"""
