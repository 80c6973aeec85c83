"""`params.yaml` as typed, validated objects: what is studied, and where each stage leaves its files.

Stages depend on the values DVC tracks in `params.yaml`, not on this module: it checks them and hands them over.
"""
import functools
import re
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from pipeline import written
from pipeline.schema import BackboneFamily, Dataset, DatasetName, Run, Scale, ServerScore, Strategy, Strict, Training
from pipeline.written import StudyError, check_known, suggest

ROOT = Path(__file__).resolve().parents[1]
ARTIFACTS = Path("artifacts")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")  # of a run, strategy or backbone: it names folders, stages and pages
# What a run that starts from another has to share with it: the weights would not fit.
NETWORK = "backbone", "decoder", "low_level", "low_level_channels", "separable", "image_level", "atrous", "dense_prediction_cell"


class Study(Strict):
    """All of `params.yaml`. `settings` is the chosen scale."""
    scale: str
    runs: dict[str, Run]
    strategies: dict[str, Strategy]
    evaluate: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]]
    backbones: dict[str, BackboneFamily]
    scales: dict[str, Scale]
    test_scores: dict[str, dict[Literal["voc", "cityscapes"], ServerScore]] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_what_is_written(cls, raw):
        """Networks under `zoo` are runs that another stage makes (dvc.yaml). `evaluate` takes strategies in by alias."""
        if not isinstance(raw, dict):
            raise ValueError("there are no settings in it")
        raw = raw | {"evaluate": written.by_name(raw.get("evaluate"), raw.get("strategies"))}
        zoo, runs = raw.pop("zoo", None) or {}, raw.get("runs") or {}
        if not isinstance(runs, dict):
            return raw  # the field's own message says what is wrong
        if not isinstance(zoo, dict):
            raise ValueError("zoo: networks by their names are wanted here")
        for name in zoo:
            if name in runs:
                raise ValueError(f"zoo.{name}: there is a run of that name, too")
            if not isinstance(zoo[name] or {}, dict):
                raise ValueError(f"zoo.{name}: a network's settings are wanted here, such as published: ADDRESS")
            if "published" not in (zoo[name] or {}):
                raise ValueError(f"zoo.{name}.published: this key is missing")
        return raw | {"runs": {**runs, **zoo}}

    @model_validator(mode="after")
    def _names_exist(self):
        """Names are well formed and differ, and what they refer to is there and fits."""
        check_known("scale", self.scale, self.scales, "scale")
        self._distinct()
        for key in self.runs:
            self._start(key)
        self._references()
        return self

    def _distinct(self) -> None:
        """A name can be that of a folder, a stage of DVC and a rule of Snakemake, which has _ only; nothing has two names."""
        for kind in ("runs", "strategies", "backbones", "scales"):
            alike = {}
            for name in getattr(self, kind):
                if not NAME.fullmatch(name):
                    raise ValueError(f"{kind}.{name}: a name has letters, digits, - and _ only, at most 100")
                if (other := alike.setdefault(name.replace("-", "_").lower(), name)) != name:  # a Mac's folders tell no capitals
                    raise ValueError(f"{kind}.{name}: it differs from {other} in - and _, or in capitals, only")
        if both := sorted(self.runs.keys() & self.backbones.keys()):
            raise ValueError(f"runs.{both[0]}: a backbone has this name, too")
        for kind, section, advice in (("runs", self.runs, "a further training of it has another seed"),
                                      ("strategies", self.strategies, "a run takes it in by what it is")):
            for name, value in section.items():
                if (first := next(other for other, same in section.items() if same == value)) != name:
                    raise ValueError(f"{kind}.{name}: it is {first} by another name; {advice}")

    def _start(self, key: str) -> None:
        """The run `key` has a backbone, and starts from weights that fit it; its starts lead to those of a backbone."""
        run = self.runs[key]
        check_known(f"runs.{key}.backbone", run.backbone, self.backbones, "backbone")
        if run.published:
            return
        kind, _, name = run.start.partition("/")
        if kind not in ("weights", "runs"):
            meant = f" (did you mean runs/{run.start}?)" if run.start in self.runs else ""
            raise ValueError(f"runs.{key}.start: it is weights/BACKBONE or runs/RUN, not {run.start!r}{meant}")
        check_known(f"runs.{key}.start", name, self.backbones if kind == "weights" else self.runs, kind[:-1])
        if kind == "weights" and name != run.backbone:
            raise ValueError(f"runs.{key}.start: {run.start} does not fit backbone {run.backbone}")
        if kind == "weights" and run.output_stride == 8:
            raise ValueError(f"runs.{key}.start: a run at output_stride 8 trains with frozen batch norm, so it has to start "
                             f"from runs/RUN, whose statistics are learnt, not from {run.start}")
        if run.start_run:
            self._fits(key, run, name)
        chain = [key]
        while (name := self.runs[chain[-1]].start_run) in self.runs:
            if name in chain:
                others = f"{', '.join(chain)} start from each other" if len(chain) > 1 else "a run cannot start from itself"
                raise ValueError(f"runs.{key}.start: {others}")
            chain.append(name)

    def _references(self) -> None:
        """Runs, strategies, scales and backbones that other sections name are there."""
        for key, names in self.evaluate.items():
            check_known(f"evaluate.{key}", key, self.runs, "run")
            for name in names:
                check_known(f"evaluate.{key}", name, self.strategies, "strategy")
                if names.count(name) > 1:
                    raise ValueError(f"evaluate.{key}: *{name} is there twice")
        for scale, scores in self.test_scores.items():
            check_known(f"test_scores.{scale}", scale, self.scales, "scale")
            for dataset, score in scores.items():
                own = {name for name, run in self.runs.items() if run.dataset == dataset}
                check_known(f"test_scores.{scale}.{dataset}.run", score.run, own, f"run on {dataset}")
                check_known(f"test_scores.{scale}.{dataset}.strategy", score.strategy, self.strategies, "strategy")
        for scale, settings in self.scales.items():
            for name in settings.zoo or ():
                check_known(f"scales.{scale}.zoo", name, [key for key, run in self.runs.items() if run.published], "zoo network")
            for name, size in settings.network.backbones.items():
                check_known(f"scales.{scale}.network.backbones.{name}", name, self.backbones, "backbone")
                if lacking := size.lacking(self.backbones[name].family):
                    raise ValueError(f"scales.{scale}.network.backbones.{name}.{lacking}: this key is missing")

    def _fits(self, key: str, run: Run, start: str) -> None:
        """The weights of run `start` have to fit `run`."""
        other = self.runs[start]
        differs = [field for field in NETWORK if getattr(run, field) != getattr(other, field)]
        if run.dataset != other.dataset and {run.dataset, other.dataset} != {"voc", "coco"}:  # these have the same classes
            differs.append("dataset")
        if differs:
            raise ValueError(f"runs.{key}.start: runs/{start} is another network, it differs in {', '.join(differs)}")

    @property
    def settings(self) -> Scale:
        return self.scales[self.scale]

    def dataset(self, name: DatasetName) -> Dataset | None:
        return getattr(self.settings, name)

    def training(self, run: str) -> Training | None:
        """The settings that `run` trains with, or None where it is published, or this scale has none for its recipe."""
        dataset = not self.runs[run].published and self.dataset(self.runs[run].dataset)
        return dataset.recipes.get(self.runs[run].recipe) if dataset else None

    def scored(self, dataset: DatasetName, classes: list[str]) -> list[int] | None:
        """The numbers, in the data set's `classes`, of those that mIOU is the mean of; None: all."""
        names, key = self.dataset(dataset).evaluate.classes, f"scales.{self.scale}.{dataset}.evaluate.classes"
        if unknown := [name for name in names or () if name not in classes]:
            raise StudyError(f"{key}: there is no class {unknown[0]!r}{suggest(unknown[0], classes)}")
        return [classes.index(name) for name in names] if names else None

    def artifacts(self, kind: str, name: str = "") -> Path:
        """`artifacts/SCALE/KIND/NAME`: what a stage leaves of one KIND (data, shards, weights, runs, facts, costs) for NAME."""
        return ARTIFACTS / self.scale / kind / name

    def skipped(self, run: str) -> str | None:
        """Why this scale cannot train (or fetch) `run`, as one sentence, or None where it can."""
        wanted, dataset = self.runs[run], self.dataset(self.runs[run].dataset)
        if wanted.published and self.settings.trains and run not in (self.settings.zoo or ()):
            return (f"scale {self.scale} trains its networks; published ones are evaluated by make study SCALE=zoo, or where "
                    f"scales.{self.scale}.zoo names them")
        if not wanted.published and not self.settings.trains:
            return f"scale {self.scale} trains nothing, it evaluates published networks"
        if wanted.backbone not in self.settings.network.backbones:
            return f"scale {self.scale} has no {wanted.backbone}: see scales.{self.scale}.network.backbones"
        if dataset is None or dataset.source is None:
            return self.no_data(wanted.dataset)
        if not wanted.published and self.training(run) is None:
            return f"scale {self.scale} does not say how to train it: no scales.{self.scale}.{wanted.dataset}.{wanted.recipe}"
        if wanted.start_run and self.runs[wanted.start_run].dataset != wanted.dataset and dataset.source.classes:
            return f"{wanted.start_run} is of another data set, and scales.{self.scale}.voc.source names its own classes"
        return self.skipped(wanted.start_run) if wanted.start_run else None

    def no_data(self, dataset: DatasetName) -> str:
        """Why what needs `dataset` is skipped where the scale names no source of it."""
        return (f"no {dataset} data at scale {self.scale}: name them in scales.{self.scale}.{dataset}.source; docs/data.md says "
                "how to get them")

    @property
    def included(self) -> list[str]:
        """The runs that this scale does not skip."""
        return [name for name in self.runs if not self.skipped(name)]


@functools.cache
def load(path: str | Path = ROOT / "params.yaml") -> Study:
    """Read and check the settings. Raises StudyError with one line for each wrong key, naming it and what is allowed."""
    raw = written.read(Path(path))
    try:
        study = Study.model_validate(raw)
        wrong = list(written.problems(raw, study.scale, get_args(DatasetName)))
    except ValidationError as error:
        wrong = list(written.mistakes(error, {key for section in Strict.__subclasses__() for key in section.model_fields}, raw))
    if wrong:
        raise StudyError("\n  ".join([f"{Path(path).name} is not a valid study:", *wrong]))
    return study
