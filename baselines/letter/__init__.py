"""LETTER (Wang et al., CIKM 2024, arXiv 2405.07314): item codes that agree with collaborative vectors and use
a codebook evenly, under TIGER and LC-Rec."""
