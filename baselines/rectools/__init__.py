"""RecTools' transformer models behind our contract: RecTools builds networks, losses and samples, our loop trains them.

RecTools' metadata asks for older NumPy and pandas than ours, and it imports a lot; it runs in a child process
(`worker`) and is never imported here.
"""
