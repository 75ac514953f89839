"""The models that `harness run` knows: a table from a name to where its class is, loaded only when it is asked for.

A third-party package adds to it with an entry point in the group `harness.models`, whose object is a `ModelEntry`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from harness.core.plugins import class_in_file, digest, file_parts, from_file, is_file_target, model_name, plugins, warn
from harness.errors import InputError, unknown_name

if TYPE_CHECKING:
    from harness.protocol.recommender import Recommender

GROUP = "harness.models"
RECBOLE = "baselines.recbole.recommender:RecBoleRecommender"
RECTOOLS = "baselines.rectools.recommender:RecToolsRecommender"

# PREFIX:NAME is a model of another library, described by the function that stands here: it takes NAME and gives the
# fields of a `ModelEntry`, or raises `InputError`.
LIBRARIES = {"recbole": "baselines.recbole.model_table:describe", "rectools": "baselines.rectools.recommender:describe"}
# Kind of a tokenizer (`SECTION.tokenizer.kind` of every generative recommender) → its class, a
# `harness.generative.tokenizers.base.Tokenizer`.
TOKENIZERS = {
    "rqvae": "harness.generative.tokenizers.base:RQVAETokenizer",
    "letter": "harness.generative.tokenizers.letter:LetterTokenizer",
    "cid": "harness.generative.tokenizers.cid:CIDTokenizer",
    "rqkmeans": "harness.generative.tokenizers.kmeans:RQKMeansTokenizer",
    "opq": "harness.generative.tokenizers.kmeans:OPQTokenizer",
    "file": "harness.generative.tokenizers.base:FileTokenizer",
    "tree": "eager.tree_tokenizer:DualSourceTokenizer",
    "random": "eager.tree_tokenizer:DualSourceTokenizer",
}


@dataclass(frozen=True)
class ModelEntry:
    """One registered model. `target` is `module:Class`; `section` is its section in `--set section.key=value` and in a
    configuration file; `preset` are settings that make this row of the table (they give way to the user's); `grids` is
    a package whose YAML files are the model's named grids for `harness ablate`; `source` says where a model that is not
    of this project comes from; `former_section` is a name that its section had, which is read with a notice."""

    name: str
    family: str
    target: str
    description: str
    paper: str
    section: str
    needs: tuple[str, ...] = ()
    preset: tuple[tuple[str, Any], ...] = ()
    grids: str = ""
    source: str = ""
    former_section: str = ""

    @property
    def file(self) -> str:
        """`PATH.py:CLASS` of a model that is a class in a file; empty for every other one."""
        return self.target if is_file_target(self.target) else ""

    @property
    def argument(self) -> str:
        """MODEL of a command: the name, or the file of a class that no package registers."""
        return self.file or self.name

    def load(self) -> type[Recommender[Any]]:
        """The class. Raises `InputError` for one of somebody else's that cannot be loaded."""
        if self.file:
            return from_file(self.target)  # pyright: ignore[reportReturnType]  # `_of_file` has looked
        try:
            return _load(self.target)
        except (Exception, SystemExit) as error:
            if not self.source:
                raise
            message = f"the model {self.name!r} cannot be loaded: {type(error).__name__}: {error}"
            raise InputError(message, where=self.source, hint="update or remove that package") from error

    def code_version(self) -> int | str:
        """What its code is, for the keys of runs: the class's number, with the content of a file beside it."""
        number = self.load().code_version
        return f"{number}+{digest(file_parts(self.target)[0])}" if self.file else number


def _classic(name: str, target: str, description: str, paper: str = "", needs: tuple[str, ...] = ()) -> ModelEntry:
    """A training-free model, `target` in `baselines.classic`."""
    return ModelEntry(name, "sanity", f"baselines.classic.{target}", description, paper, name, needs)


def _recbole(model: str, description: str, paper: str, needs: tuple[str, ...] = ()) -> ModelEntry:
    """RecBole's `model`, under its name in small letters."""
    preset = (("model", model),)
    return ModelEntry(model.lower(), "recbole", RECBOLE, f"{description} (RecBole)", paper, "recbole", needs, preset)


def _rectools(name: str, description: str, paper: str, former_section: str = "", **preset: str) -> ModelEntry:
    """A transformer of RecTools with the settings `preset`."""
    entry = ModelEntry(name, "rectools", RECTOOLS, f"{description} (RecTools)", paper, "rectools")
    return replace(entry, preset=tuple(preset.items()), former_section=former_section)


TEXT = ("text",)
TIGER = "Rajput et al., NeurIPS 2023, arXiv 2305.05065"
LETTER = "Wang et al., CIKM 2024, arXiv 2405.07314"
MODELS = (
    _classic("mostpop", "base:MostPopular", "the most bought items, the same for everybody"),
    _classic("markov", "base:Markov", "first-order transitions from the last item"),
    _classic(
        "itemknn",
        "base:ItemKNN",
        "items bought by the same users as the history's, by cosine",
        "Sarwar et al., WWW 2001",
    ),
    _classic(
        "graph",
        "graph:Graph",
        "rings round the last item of the transition graph, ranked by item text where there is some",
        "arXiv 2605.07125",
    ),
    _classic("textknn", "text:TextKNN", "items whose text is nearest to the recent history's, by TF-IDF", needs=TEXT),
    _classic(
        "ease",
        "ease:EASE",
        "a linear model of items by items in closed form, where its matrix fits the memory",
        "Steck, WWW 2019, arXiv 1905.03375",
    ),
    _rectools(
        "sasrec",
        "self-attention over the history, sampled softmax",
        "Kang & McAuley, ICDM 2018; Klenitskiy & Vasilev, RecSys 2023",
        former_section="recbole",
        model="SASRec",
    ),
    _rectools(
        "esasrec",
        "SASRec with LiGR layers, sampled softmax",
        "eSASRec, RecSys 2025",
        model="SASRec",
        layer="ligr",
    ),
    _rectools(
        "hstu",
        "HSTU's pointwise attention over the history, without times",
        "Zhai et al., ICML 2024, arXiv 2402.17152",
        model="HSTU",
    ),
    _recbole("GRU4Rec", "a recurrent network over the history", "Hidasi et al., ICLR 2016; Tan et al., DLRS 2016"),
    _recbole("BERT4Rec", "a bidirectional transformer that fills masked items", "Sun et al., CIKM 2019"),
    _recbole("Caser", "convolutions over the history and a vector a user", "Tang & Wang, WSDM 2018"),
    _recbole("HGN", "gates over features and items of the history", "Ma et al., KDD 2019"),
    _recbole("NARM", "a recurrent network with attention over the history", "Li et al., CIKM 2017"),
    _recbole("LightSANs", "self-attention over a few latent interests", "Fan et al., SIGIR 2021"),
    _recbole("FDSA", "self-attention over items and, apart, over their features", "Zhang et al., IJCAI 2019", TEXT),
    _recbole(
        "S3Rec",
        "self-attention pre-trained on items, features and segments",
        "Zhou et al., CIKM 2020, arXiv 2008.07873",
        TEXT,
    ),
    ModelEntry(
        "lcrec",
        "llm",
        "baselines.lcrec:LCRec",
        "a decoder-only LLM that reads and writes RQ-VAE codes of item text",
        "Zheng et al., ICDE 2024, arXiv 2311.09049",
        "lcrec",
        needs=TEXT,
    ),
    ModelEntry(
        "minionerec",
        "llm",
        "baselines.lcrec:MiniOneRec",
        "LC-Rec on residual k-means codes with half of the samples text: MiniOneRec, its GRPO stage on demand",
        "arXiv 2510.24431",
        "minionerec",
        needs=TEXT,
        grids="baselines.grids",
    ),
    ModelEntry(
        "tiger",
        "generative",
        "baselines.tiger:Tiger",
        "an encoder-decoder that reads and writes RQ-VAE codes of item text",
        TIGER,
        "tiger",
        needs=TEXT,
    ),
    ModelEntry(
        "tiger-decoder",
        "generative",
        "baselines.tiger:TigerDecoder",
        "TIGER's codes in a decoder alone, all next items of a window in one pass: not the paper's encoder-decoder",
        f"departs from {TIGER}",
        "tiger",
        needs=TEXT,
    ),
    ModelEntry(
        "letter-tiger",
        "generative",
        "baselines.letter:LetterTiger",
        "TIGER on codes that agree with collaborative vectors and use their codebooks evenly",
        LETTER,
        "letter_tiger",
        needs=TEXT,
    ),
    ModelEntry(
        "letter-lcrec",
        "llm",
        "baselines.letter:LetterLCRec",
        "LC-Rec on LETTER's codes",
        LETTER,
        "letter_lcrec",
        needs=TEXT,
    ),
    ModelEntry(
        "p5-cid",
        "generative",
        "baselines.letter:P5CID",
        "a decoder over codes by recursive spectral clustering of item co-occurrence",
        "Hua et al., SIGIR-AP 2023, arXiv 2305.06569",
        "p5cid",
    ),
    ModelEntry(
        "rpg",
        "generative",
        "baselines.rpg:RPG",
        "a causal transformer that predicts all OPQ codes of the next item at once",
        "Hou et al., KDD 2025, arXiv 2506.05781",
        "rpg",
        needs=TEXT,
    ),
    ModelEntry(
        "eager",
        "generative",
        "eager.two_stream:Eager",
        "one encoder and two decoders, of behaviour codes and of semantic codes, ranked by confidence",
        "Wang et al., KDD 2024, arXiv 2406.14017",
        "eager_kdd",
        needs=TEXT,
    ),
    ModelEntry(
        "eager-llm",
        "llm",
        "eager.method:EagerLLM",
        "a decoder-only LLM that reads and writes dual-source item codes",
        "Hong et al., WWW 2025, arXiv 2502.14735",
        "eager",
        needs=TEXT,
        grids="eager.grids",
    ),
)


def load_tokenizer(kind: str) -> Any:
    """The class of a tokenizer; `InputError` with near names for an unknown kind."""
    if kind not in TOKENIZERS:
        raise unknown_name("tokenizer", kind, TOKENIZERS)
    return _load(TOKENIZERS[kind])


def model_entries() -> dict[str, ModelEntry]:
    """All models by name: this project's, then those that installed packages add. A package may not take a name away,
    and one that is broken is left out; a warning says so."""
    known_by_name = {entry.name: entry for entry in MODELS}
    for source, entry in plugins(entry_points(group=GROUP), ModelEntry):
        if entry.name in known_by_name:
            owner = known_by_name[entry.name].source or "this program"
            warn(f"{source} is skipped: the model name {entry.name!r} is taken by {owner}")
        else:
            known_by_name[entry.name] = replace(entry, source=source)
    return known_by_name


def model_entry(name: str) -> ModelEntry:
    """The entry of one name, or of a class in a file, `PATH.py:CLASS`; `InputError` with near names for a miss.

    A library's model that has a name of its own here is that model: `recbole:SASRec` is `sasrec`.
    """
    if is_file_target(name):
        return _of_file(name)
    known_by_name = model_entries()
    library, _, inside = name.partition(":")
    if name not in known_by_name and library in LIBRARIES:
        described = ModelEntry(**_load(LIBRARIES[library])(inside))
        made_of = (described.target, described.preset)
        return next((entry for entry in known_by_name.values() if (entry.target, entry.preset) == made_of), described)
    if name not in known_by_name:
        raise unknown_name("model", name, known_by_name, otherwise="(a class in a file is FILE.py:CLASS)")
    return known_by_name[name]


def _of_file(name: str) -> ModelEntry:
    """The entry of a class that no package registers. It is stored as `STEM:CLASS`, its section in `--set` is the
    file's stem, and its docstring begins with its description."""
    from harness.protocol.recommender import Recommender

    path, attribute = file_parts(name)
    target, (stem, _, _) = f"{path}:{attribute}", model_name(name).partition(":")
    if stem in LIBRARIES or stem in ("model", "dataset", "protocol"):
        raise InputError(f"a file may not be named {path.name}", where=path, hint="rename it: the name has a meaning")
    result = class_in_file(target, Recommender)
    description = (result.__doc__ or "").strip().partition("\n")[0]
    needs = tuple(getattr(result, "needs", ()))
    return ModelEntry(model_name(target), "own", target, description, "", stem, needs=needs, source=str(path))


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)
