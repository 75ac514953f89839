"""Which tasks stage 1 trains on: their weights, caps and texts. A section of the configuration."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Task = Literal["seqrec", "item2index", "index2item", "fusionseqrec", "itemsearch", "preferenceobtain"]


class Section(BaseModel):
    """Base of the sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CapsConfig(Section):
    """The most samples of a task in stage 1, a subset drawn once; null: all of them, 0: the task is off."""

    seqrec: int | None = Field(default=None, ge=1, description="next-item targets; other users take no part")
    item2index: int | None = Field(default=None, ge=0)
    index2item: int | None = Field(default=None, ge=0)
    fusionseqrec: int | None = Field(default=None, ge=0)
    itemsearch: int | None = Field(default=None, ge=0)
    preferenceobtain: int | None = Field(default=None, ge=0)


class TasksConfig(Section):
    """Stage-1 tasks and their weights; a weight of 0 leaves a task out."""

    seqrec: float = Field(default=1.0, gt=0)
    item2index: float = Field(default=0.1, ge=0)
    index2item: float = Field(default=0.1, ge=0)
    fusionseqrec: float = Field(default=0.05, ge=0, description="titles in, next code out; codes in, next title out")
    itemsearch: float = Field(default=0.05, ge=0, description="an intention and recent codes in, code out")
    preferenceobtain: float = Field(default=0.05, ge=0, description="codes of a history in, preferences out")
    mixing: Literal["weights", "samples"] = Field(
        default="weights",
        description="a step draws its task by weight, or by weight times samples, as one shuffled pool of all would",
    )
    caps: CapsConfig = CapsConfig()
    templates: int = Field(
        default=8, ge=1, le=8, description="templates of a task that training draws from; ranking uses the first"
    )
    window: int = Field(
        default=21, ge=2, description="items of a training sequence: every one but the first is a target"
    )
    titles: int = Field(default=20, ge=1, description="items of a history of titles (fusionseqrec)")
    recent: int = Field(
        default=5, ge=1, description="items of the recent past: in itemsearch, and in short preferences"
    )
    text_tokens: int = Field(default=48, ge=4, description="a text is cut to this many tokens, in prompt and response")
    title_tokens: int = Field(default=16, ge=2, description="a title in a history of titles is cut to this many tokens")
    held_out: float = Field(
        default=0.05, ge=0, le=0.5, description="share of items, by a hash of raw ids, that stand in no text task"
    )
    intentions: str | None = Field(
        default=None, description="a JSON file of generated texts; null: the rule that docs/method.md states"
    )

    def weights(self) -> dict[Task, float]:
        """The tasks that take part, with their weights."""
        tasks: tuple[Task, ...] = get_args(Task)
        return {task: getattr(self, task) for task in tasks if getattr(self, task) and getattr(self.caps, task) != 0}
