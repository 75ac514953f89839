"""MiniOneRec's supervised fine-tuning as a preset of LC-Rec: codes by residual k-means, a higher rate, more text.

Of a pass, about 45% of the samples are next items by codes alone, as many join titles and codes over a history, and the
rest are pairs of an item's code and text (of the released training data: 45%, 45%, 9%). Reinforcement learning, the
method's second stage, is not part of it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from baselines.lcrec.method import LCRec, LCRecConfig
from harness.core.config_files import ReadyIndex
from harness.generative.config import CPU, SMOKE, Section, with_settings
from harness.generative.tokenizers.base import Tokenizer
from harness.generative.tokenizers.kmeans import RQKMeansTokenizer
from harness.protocol.recommender import ModelConfig


class MiniOneRecIndexConfig(Section, ReadyIndex):
    """Vectors to item codes."""

    kind: Literal["rqkmeans", "file"] = Field(default="rqkmeans", description="residual k-means; a ready index file")
    levels: int = Field(default=3, ge=1, le=8, description="tokens of a code")
    k: int = Field(default=256, ge=2, description="tokens of a level")
    balanced: bool = Field(default=False, description="clusters of a level differ in size by at most one")


# A sample of fusionseqrec for each next item: that task has two, titles to code and codes to title.
TASKS: dict[str, Any] = {
    "mixing": "samples", "item2index": 0.5, "index2item": 1.0, "fusionseqrec": 0.5, "itemsearch": 0.0,
    "preferenceobtain": 0.0, "held_out": 0.0,
}  # fmt: skip


class MiniOneRecConfig(LCRecConfig):
    """The whole method. The rate of fine-tuning is 3e-4 in every profile but `smoke`."""

    section: ClassVar[str] = "minionerec"

    index: MiniOneRecIndexConfig = MiniOneRecIndexConfig()  # pyright: ignore[reportIncompatibleVariableOverride]

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": with_settings(
            SMOKE, index={"k": 8}, tasks={"itemsearch": 0.0, "preferenceobtain": 0.0}, tuning={"max_steps": 220}
        ),
        "cpu": with_settings(
            CPU, tasks={**TASKS, "templates": 1, "titles": 6}, tuning={"max_steps": 1900, "learning_rate": 3e-4}
        ),
        "gpu": {
            "tasks": TASKS,
            "tuning": {"epochs": 2, "targets": 64, "rows": 64, "learning_rate": 3e-4, "code_rate": 3e-4},
        },
    }

    def own_tokenizer(self) -> Tokenizer:
        index = self.index
        return RQKMeansTokenizer(
            levels=index.levels, size=index.k, balanced=index.balanced, stream="minionerec", semantic=self.semantic
        )


class MiniOneRec(LCRec):
    """MiniOneRec (arXiv 2510.24431), supervised fine-tuning alone. Needs item text."""

    config_class: ClassVar[type[ModelConfig]] = MiniOneRecConfig
    code_version: ClassVar[int] = 1
