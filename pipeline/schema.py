"""The sections of `params.yaml` as typed, strict objects, each checked by itself. study.py puts them together."""
import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, field_validator, model_validator

from pipeline.written import absent, aligned, distinct, no_switch, without_null, without_secret

OutputStride = Literal[8, 16, 32]
SegmentationName = Literal["voc", "coco", "cityscapes"]
DatasetName = Literal[SegmentationName, "imagenet"]
DECODER = re.compile(r"none|\[([13])x\1,([1-9]\d*)\](?:x([1-9]))?")  # Table 2's notation: kernel, filters, how often
LOW_LEVEL = ("conv2",), ("conv3",), ("conv2", "conv3")
Address = Annotated[str, Field(min_length=1), AfterValidator(without_secret)]
ClassName = Annotated[str, Field(pattern=r"^\w[\w -]{0,39}$")]  # words of pages, LaTeX and MLflow's metrics
TwoOrMore = Annotated[int, Field(ge=2)]  # units: the decoder takes a block's last but one


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)
    _numbers = field_validator("*", mode="before")(classmethod(no_switch))


class Run(Strict):
    """One network: where it starts, the data it sees; or where it is published. Field meanings: comments in `params.yaml`."""
    dataset: SegmentationName
    backbone: str
    start: str | None = None
    published: Address | None = None
    output_stride: OutputStride
    decoder: str
    low_level: tuple[Literal["conv2", "conv3"], ...]
    low_level_channels: int = Field(gt=0)
    separable: bool
    image_level: bool
    atrous: bool = True
    dense_prediction_cell: bool = False
    recipe: str = "train"
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _consistent(self):
        if (self.start is None) == (self.published is None):
            raise ValueError("a network is trained from `start`, or fetched from where it is `published`: name one of the two")
        if not DECODER.fullmatch(self.decoder):
            raise ValueError(f"decoder must be none, or as Table 2 writes it, such as [3x3,256]x2; got {self.decoder!r}")
        if self.low_level not in LOW_LEVEL:
            raise ValueError(f"low_level must be [conv2], [conv3] or [conv2, conv3], got {list(self.low_level)}")
        return self

    @property
    def start_run(self) -> str | None:
        """The run it starts from; None where that is a backbone's ImageNet weights, or where it is published."""
        return self.start.removeprefix("runs/") if (self.start or "").startswith("runs/") else None


class Strategy(Strict):
    """One way to infer: eval output stride, input scales, and whether left-right flips are averaged in (section 4)."""
    output_stride: OutputStride
    scales: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1), AfterValidator(distinct)]
    flip: bool


class BackboneFamily(Strict):
    family: Literal["resnet", "xception", "mobilenet"]
    weight_decay: float = Field(ge=0)
    batch_norm_decay: float = Field(0.9997, ge=0, lt=1)


class BackboneSize(Strict):
    """How big a backbone is at one scale. `weights`: a URL or file of published ImageNet weights, else it is pretrained."""
    units: tuple[TwoOrMore, TwoOrMore, PositiveInt, PositiveInt] | None = None  # ResNet: bottleneck units per block
    middle: int | None = Field(None, ge=0)          # Xception: modules of the middle flow
    entry: Literal[3, 5] = 3                        # Xception: modules of the entry flow (5: Xception-71)
    width: float = Field(1.0, gt=0)
    weights: Address | None = None

    def lacking(self, family: str) -> str | None:
        """The field that a backbone of this family needs and this size does not have."""
        needed = {"resnet": "units", "xception": "middle"}.get(family)
        return needed if needed and getattr(self, needed) is None else None


class Network(Strict):
    width: float = Field(gt=0)
    atrous_rates: tuple[PositiveInt, PositiveInt, PositiveInt]
    backbones: Annotated[dict[str, BackboneSize], BeforeValidator(without_null)]

    def of(self, backbone: str) -> "Network":
        """Without the sizes of other backbones, of which a run knows nothing."""
        return self.model_copy(update={"backbones": {backbone: self.backbones[backbone]}})


class Generate(Strict):
    """Miniature data, made in the data set's native layout: image counts, longest side in pixels, seed."""
    train: int = Field(gt=0)
    val: int = Field(gt=0)
    size: int = Field(ge=17)
    seed: int = Field(ge=0, lt=2**63)


class Archive(Strict):
    name: str
    mirrors: tuple[Address, ...]
    md5: Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$")] | None = None
    size: int | None = None
    optional: bool = False  # where no mirror has it, the data set does without


class Source(Strict):
    """Where a data set comes from; exactly one of the three. `classes`: names of a folder's own, from 0 on."""
    generate: Generate | None = None
    folder: Address | None = None
    archives: Annotated[tuple[Archive, ...], AfterValidator(distinct)] | None = None
    classes: Annotated[tuple[ClassName, ...], Field(min_length=2, max_length=255), AfterValidator(distinct)] | None = None

    @model_validator(mode="after")
    def _one(self):
        if sum(value is not None for value in (self.generate, self.folder, self.archives)) != 1:
            raise ValueError("name exactly one of generate, folder, archives")
        if self.classes and not self.folder:
            raise ValueError("classes are named of a folder; those of generated data and of archives are known")
        return self


class Training(Strict):
    """One training's length, batch and schedule. Field meanings: comments in `params.yaml`, scale paper."""
    split: str
    crop: int = Field(gt=16)  # a position of the network's output is 16 pixels
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
    optimiser: Literal["sgd", "adamw"] = "sgd"
    accumulate: int = Field(1, gt=0)
    compile: bool = False
    checkpoint_activations: bool = False
    deterministic: bool = False
    cpu_bfloat16: bool = False

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
    canvas: tuple[PositiveInt, PositiveInt]
    classes: Annotated[tuple[str, ...], AfterValidator(distinct)] | None = None


class Dataset(Strict):
    """`evaluate_batch`: images at a time, for any network. Every further key is a recipe, as `train` is."""
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Training | None]
    source: Source | None
    train: Training | None
    evaluate: Evaluation
    evaluate_batch: int = Field(gt=0)

    @property
    def recipes(self) -> dict[str, Training]:
        """The train settings that a run's `recipe` can name."""
        return without_null({"train": self.train, **self.model_extra})


class ServerScore(Strict):
    """What an evaluation server said of a submission (`stages.submit`): mIOU on the test set, in percent."""
    run: str
    strategy: str
    miou: float = Field(ge=1, le=100)  # less is a fraction in the place of percent


class Scale(Strict):
    """`written.problems` asks the scale that is studied for every data set, as DVC does. `zoo`: published networks that
    are fetched although it trains, for runs to start from."""
    network: Network
    zoo: Annotated[tuple[str, ...], AfterValidator(distinct)] | None = None
    voc: Annotated[Dataset | None, BeforeValidator(absent), AfterValidator(aligned)] = None
    coco: Annotated[Dataset | None, BeforeValidator(absent), AfterValidator(aligned)] = None
    cityscapes: Annotated[Dataset | None, BeforeValidator(absent), AfterValidator(aligned)] = None
    imagenet: Annotated[Dataset | None, BeforeValidator(absent)] = None

    @property
    def trains(self) -> bool:
        """Whether networks are trained at this scale; else published ones are fetched and evaluated."""
        found = [getattr(self, name) for name in get_args(SegmentationName)]
        return any(dataset and dataset.recipes for dataset in found)
