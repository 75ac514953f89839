"""RecBole's sequential models behind our contract: RecBole trains and scores, our evaluator measures.

RecBole needs patches that reach a whole process, so it runs in a child process (`worker`) and is never imported here.
"""
