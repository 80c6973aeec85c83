"""`params.yaml` as typed, validated objects: what is studied, and where each stage leaves its files.

Stages depend on the values DVC tracks in `params.yaml`, not on this module: it checks them and hands them over.
"""
import difflib
import functools
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

ROOT = Path(__file__).resolve().parents[1]
ARTIFACTS = Path("artifacts")

OutputStride = Literal[8, 16, 32]
DatasetName = Literal["voc", "coco", "cityscapes", "imagenet"]
DecoderConvs = Literal["none", "[3x3,256]", "[3x3,256]x2", "[3x3,256]x3", "[3x3,128]", "[1x1,256]"]
Recipe = Literal["train", "fine_tune", "trainval"]
Size = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]


class StudyError(ValueError):
    """Something in the study's settings or inputs that a person has to mend; the message names it and says how."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Run(Strict):
    """One network: where it starts, the data it sees; or where it is published. Field meanings: comments in `params.yaml`."""
    dataset: Literal["voc", "coco", "cityscapes"]
    backbone: str
    start: str | None = None
    published: str | None = None
    output_stride: OutputStride
    decoder: DecoderConvs
    low_level: tuple[Literal["conv2", "conv3"], ...]
    low_level_channels: int = Field(gt=0)
    separable: bool
    image_level: bool
    atrous: bool = True
    dense_prediction_cell: bool = False
    recipe: Recipe = "train"
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self):
        if (self.start is None) == (self.published is None):
            raise ValueError("a network is trained from `start`, or fetched from where it is `published`: name one of the two")
        if self.low_level not in (("conv2",), ("conv2", "conv3")):
            raise ValueError(f"low_level must be [conv2] or [conv2, conv3], got {list(self.low_level)}")
        return self


class Strategy(Strict):
    """One way to infer: eval output stride, input scales, and whether left-right flips are averaged in (section 4)."""
    output_stride: OutputStride
    scales: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    flip: bool


class BackboneFamily(Strict):
    family: Literal["resnet", "xception", "mobilenet"]
    weight_decay: float = Field(ge=0)
    batch_norm_decay: float = Field(0.9997, ge=0, lt=1)


class BackboneSize(Strict):
    """How big a backbone is at one scale. `weights`: a URL or file of published ImageNet weights, else it is pretrained."""
    units: tuple[int, int, int, int] | None = None  # ResNet: bottleneck units per block
    middle: int | None = None                       # Xception: modules of the middle flow
    entry: Literal[3, 5] = 3                        # Xception: modules of the entry flow (5: Xception-71)
    width: float = Field(1.0, gt=0)
    weights: str | None = None


class Network(Strict):
    width: float = Field(gt=0)
    atrous_rates: tuple[int, int, int]
    backbones: dict[str, BackboneSize]


class Generate(Strict):
    """Miniature data, made in the data set's native layout: image counts, longest side in pixels, seed."""
    train: int = Field(gt=0)
    val: int = Field(gt=0)
    size: int = Field(ge=17)
    seed: int


class Archive(Strict):
    name: str
    mirrors: tuple[str, ...]
    md5: str | None = None
    size: int | None = None
    optional: bool = False  # where no mirror has it, the data set does without


class Source(Strict):
    """Where a data set comes from; exactly one of the three."""
    generate: Generate | None = None
    folder: str | None = None
    archives: tuple[Archive, ...] | None = None

    @model_validator(mode="after")
    def _one(self):
        if sum(value is not None for value in (self.generate, self.folder, self.archives)) != 1:
            raise ValueError("name exactly one of generate, folder, archives")
        return self


class Training(Strict):
    """One training's length, batch and schedule. Field meanings: comments in `params.yaml`, scale paper."""
    split: str
    crop: int = Field(gt=0)
    batch: int = Field(gt=0)
    steps: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    power: float = Field(gt=0)
    validate_every: int = Field(gt=0)
    slow_start_steps: int = Field(0, ge=0)
    slow_start_learning_rate: float = Field(1e-4, gt=0)
    batch_norm_decay: float = Field(0.9997, ge=0, lt=1)
    fine_tune_batch_norm: bool = True
    last_layer_gradient_multiplier: float = Field(1.0, gt=0)
    accumulate: int = Field(1, gt=0)
    compile: bool = False
    checkpoint_activations: bool = False
    deterministic: bool = False

    @model_validator(mode="after")
    def _consistent(self):
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate: a batch of {self.batch} cannot be computed in {self.accumulate} equal parts")
        if self.slow_start_steps >= self.steps:
            raise ValueError(f"slow_start_steps: {self.slow_start_steps} of {self.steps} steps leave none")
        return self


class Evaluation(Strict):
    """`canvas`: height and width that images are padded to. `classes`: those that mIOU is the mean of; all if left out."""
    split: str
    canvas: Size
    batch: int = Field(gt=0)
    classes: tuple[str, ...] | None = None


class Dataset(Strict):
    """`train`, `fine_tune`, `trainval`: what a run's `recipe` names."""
    source: Source | None
    train: Training | None
    fine_tune: Training | None = None
    trainval: Training | None = None
    evaluate: Evaluation


class ServerScore(Strict):
    """What an evaluation server said of a submission (`stages.submit`): mIOU on the test set, in percent."""
    run: str
    strategy: str
    miou: float = Field(ge=0, le=100)


class Scale(Strict):
    network: Network
    voc: Dataset | None
    coco: Dataset | None
    cityscapes: Dataset | None
    imagenet: Dataset | None

    @property
    def trains(self) -> bool:
        """Whether networks are trained at this scale; else published ones are fetched and evaluated."""
        return any(dataset and dataset.train for dataset in (self.voc, self.coco, self.cityscapes))


class Study(Strict):
    """All of `params.yaml`. `settings` is the chosen scale."""
    scale: str
    runs: dict[str, Run]
    strategies: dict[str, Strategy]
    evaluate: dict[str, tuple[str, ...]]
    backbones: dict[str, BackboneFamily]
    scales: dict[str, Scale]
    test_scores: dict[str, dict[Literal["voc", "cityscapes"], ServerScore]] = {}

    @model_validator(mode="before")
    @classmethod
    def _zoo_holds_runs(cls, raw):
        """Networks under `zoo` are runs like any other; they stand apart because another stage makes them (dvc.yaml)."""
        raw = dict(raw)
        zoo, runs = raw.pop("zoo", None) or {}, raw.get("runs") or {}
        for name in zoo:
            if name in runs:
                raise ValueError(f"zoo.{name}: there is a run of that name, too")
            if "published" not in zoo[name]:
                raise ValueError(f"zoo.{name}.published: this key is missing")
        return raw | {"runs": {**runs, **zoo}}

    @model_validator(mode="after")
    def _names_exist(self):
        def check(key, name, known, what):
            if name not in known:
                raise ValueError(f"{key}: there is no {what} {name!r}{suggest(name, known)}")
        check("scale", self.scale, self.scales, "scale")
        for key, run in self.runs.items():
            check(f"runs.{key}.backbone", run.backbone, self.backbones, "backbone")
            if run.published:
                continue
            kind, _, name = run.start.partition("/")
            check(f"runs.{key}.start", kind, ("weights", "runs"), "kind of start")
            check(f"runs.{key}.start", name, self.backbones if kind == "weights" else self.runs, kind[:-1])
            if kind == "weights" and name != run.backbone:
                raise ValueError(f"runs.{key}.start: {run.start} does not fit backbone {run.backbone}")
            if kind == "runs" and self.runs[name].start == f"runs/{key}":
                raise ValueError(f"runs.{key}.start: {key} and {name} start from each other")
        for key, names in self.evaluate.items():
            check(f"evaluate.{key}", key, self.runs, "run")
            for name in names:
                check(f"evaluate.{key}", name, self.strategies, "strategy")
        for scale, scores in self.test_scores.items():
            check(f"test_scores.{scale}", scale, self.scales, "scale")
            for dataset, score in scores.items():
                own = {name for name, run in self.runs.items() if run.dataset == dataset}
                check(f"test_scores.{scale}.{dataset}.run", score.run, own, f"run on {dataset}")
                check(f"test_scores.{scale}.{dataset}.strategy", score.strategy, self.strategies, "strategy")
        for scale, settings in self.scales.items():
            for name in settings.network.backbones:
                check(f"scales.{scale}.network.backbones.{name}", name, self.backbones, "backbone")
        return self

    @property
    def settings(self) -> Scale:
        return self.scales[self.scale]

    def dataset(self, name: DatasetName) -> Dataset | None:
        return getattr(self.settings, name)

    def training(self, run: str) -> Training | None:
        """The settings that `run` trains with, or None where this scale has none for its recipe."""
        dataset = self.dataset(self.runs[run].dataset)
        return dataset and getattr(dataset, self.runs[run].recipe)

    def artifacts(self, kind: str, name: str = "") -> Path:
        """`artifacts/SCALE/KIND/NAME`: the folder that stage KIND leaves for NAME (data, shards, weights, runs, facts, costs)."""
        return ARTIFACTS / self.scale / kind / name

    def skipped(self, run: str) -> str | None:
        """Why this scale cannot train (or fetch) `run`, as one sentence, or None where it can."""
        wanted = self.runs[run]
        dataset = self.dataset(wanted.dataset)
        if wanted.published and self.settings.trains:
            return f"scale {self.scale} trains its networks; published ones are evaluated by make study SCALE=zoo"
        if not wanted.published and not self.settings.trains:
            return f"scale {self.scale} trains nothing, it evaluates published networks"
        if wanted.backbone not in self.settings.network.backbones:
            return f"scale {self.scale} has no {wanted.backbone}: see scales.{self.scale}.network.backbones"
        if dataset is None or dataset.source is None or (self.settings.trains and dataset.train is None):
            return f"no {wanted.dataset} data at scale {self.scale}: name them in scales.{self.scale}.{wanted.dataset}.source"
        if self.settings.trains and self.training(run) is None:
            return f"scale {self.scale} does not say how to train it: no scales.{self.scale}.{wanted.dataset}.{wanted.recipe}"
        kind, _, start = (wanted.start or "").partition("/")
        return self.skipped(start) if kind == "runs" else None


def suggest(name: str, known) -> str:
    """The end of a message about an unknown name: the closest known one, or all of them."""
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f" (did you mean {close[0]}?)" if close else f"; there are {', '.join(known)}"


@functools.cache
def load(path: str | Path = ROOT / "params.yaml") -> Study:
    """Read and check the settings. Raises StudyError with one line for each wrong key, naming it and what is allowed."""
    try:
        raw = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise StudyError(f"{path}: {error}") from error
    try:
        return Study.model_validate(raw)
    except ValidationError as error:
        problems: dict[str, list[str]] = {}
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            last, message = key.rpartition(".")[2], problem["msg"].removeprefix("Value error, ")
            got = "" if problem["type"] in ("extra_forbidden", "missing", "value_error") else f", got {problem['input']!r}"
            message = {"extra_forbidden": "unknown key", "missing": "this key is missing"}.get(problem["type"], message)
            problems.setdefault(f"{message}{got}" if not key else f"{last}: {message}{got}", []).append(key)
        lines = []
        for message, keys in problems.items():  # a mistake in a line that others take over (<<) is said once
            others = f"  (and {len(keys) - 1} more that take it over)" if len(keys) > 1 else ""
            prefix = keys[0].rpartition(".")[0]
            lines.append(f"  {prefix}.{message}{others}" if prefix else f"  {message}")
        raise StudyError(f"{Path(path).name} is not a valid study:\n" + "\n".join(lines)) from None
