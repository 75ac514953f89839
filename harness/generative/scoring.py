"""What a token's probability is taken among: one name, shared by the loss and by the search.

Light on purpose: configurations import it without importing torch.
"""

from __future__ import annotations

from typing import Literal

Normalise = Literal["level", "children", "vocabulary"]
"""`level`: all code tokens of the level. `children`: those that lead on to a real code, so that a token without an
alternative costs nothing. `vocabulary`: the text vocabulary and all code tokens, taken before the trie's mask, and the
end-of-sequence token after the last code token, as transformers' `generate` scores."""
