"""Published weights and networks: the authors' TensorFlow checkpoints, or safetensors with timm's names."""
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from pipeline.datasets import archives, mirrors, unpacking
from pipeline.datasets.shards import Shard
from pipeline.models import deeplab
from pipeline.models.published import bundles, imagenet, tensorflow
from pipeline.models.published.sstables import is_table
from pipeline.models.weights import count_parameters, save
from pipeline.records import MODEL, WEIGHTS
from pipeline.schema import BackboneSize, Network, Run
from pipeline.study import ARTIFACTS, StudyError

CLASSIFIER = ("head.", "fc.", "classifier.", "conv_head.", "bn2.")  # begin timm's names of what no backbone has


def save_backbone(size: BackboneSize, family: str, out: Path, pictures: Shard | None = None,
                  batch: int = 1) -> dict[str, float]:
    """Write the published weights that `size.weights` names to OUT/weights.safetensors, as pretraining would; return metrics,
    with the errors on `pictures` (ImageNet val, `batch` at a time) where the checkpoint has its classifier."""
    backbone = deeplab.build_backbone(family, size, 32)
    variables = load_backbone_weights(size.weights, backbone)
    save(backbone, out / WEIGHTS)
    metrics = {"parameters": count_parameters(backbone)}
    if pictures is not None and variables and imagenet.has_classifier(variables):
        metrics |= imagenet.errors(variables, family, size, pictures, batch)
    return metrics


def save_network(run: Run, family: str, sizes: Network, classes: int, out: Path) -> dict[str, float]:
    """Write the published network that `run.published` names to OUT/model.safetensors, as training would; return metrics.
    StudyError as of `tensorflow.load`."""
    network = deeplab.build(run, family, sizes, classes)
    tensorflow.load(network, read(run.published))
    save(network, out / MODEL)
    return {"parameters": count_parameters(network)}


def load_backbone_weights(weights: str | Path, backbone: nn.Module) -> dict[str, np.ndarray]:
    """Load published ImageNet weights, safetensors (file or URL) or what `read` takes, into a backbone; return all variables
    of a TensorFlow checkpoint, {} for safetensors. StudyError that lists everything missing, left over or of another shape."""
    path = _local(weights)
    if path.suffix == ".safetensors":
        _load_safetensors(path, backbone)
        return {}
    variables = read(path)
    tensorflow.load(backbone, variables)
    return variables


def read(source: str | Path) -> dict[str, np.ndarray]:
    """The variables of a TensorFlow checkpoint, format V1 or V2, without TensorFlow; optimiser slots and counters are left out.

    `source`: a checkpoint's prefix (model.ckpt-30000), its .index file, a folder or archive (.tar.gz) that holds one checkpoint,
    or the http(s) or file URL of such an archive, which is kept in artifacts/archives.
    """
    path = _local(source)
    if path.is_file() and not is_table(path) and unpacking.is_tar(path):
        with tempfile.TemporaryDirectory() as folder:
            unpacking.unpack(path, Path(folder))
            try:
                return read(_only(Path(folder), str(path)))
            except StudyError as error:
                raise StudyError(str(error).replace(folder, str(path))) from error
    if path.is_dir():
        path = _only(path, str(path))
    if path.name.endswith(".index"):
        path = path.with_name(path.name.removesuffix(".index"))
    return _read(path)


def _local(source: str | Path) -> Path:
    """Where `source` lies on this machine; what a URL names is fetched."""
    if path := mirrors.local(str(source)):
        return path
    path = archives.fetch(archives.at(str(source)), ARTIFACTS / "archives")
    if not (is_table(path) or unpacking.is_tar(path) or _is_safetensors(path) or zipfile.is_zipfile(path)):  # see _read
        raise StudyError(f"{path} is neither a checkpoint, an archive of one nor safetensors, but perhaps a page that asks for a "
                         "login: delete it and run the same command again")
    return path


def _read(path: Path) -> dict[str, np.ndarray]:
    def wanted(name: str) -> bool:
        return not tensorflow.BOOKKEEPING.search(name)
    try:
        if Path(f"{path}.index").exists():
            return bundles.read_v2(path, wanted)
        if zipfile.is_zipfile(path):
            raise StudyError(f"{path} is a file of PyTorch: save the weights of a backbone as safetensors (docs/own-data.md); of "
                             "whole networks only checkpoints of the authors' TensorFlow code are read")
        if path.exists():
            return bundles.read_v1(path, wanted)
    except StudyError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise StudyError(f"{path} is damaged: its entries contradict each other ({type(error).__name__}: {error})") from error
    raise StudyError(f"no checkpoint at {path}: expected {path.name}.index (format V2), or a file of that very name (V1)")


def _only(folder: Path, shown: str) -> Path:
    """The one checkpoint under `folder`: its prefix."""
    found = {path.with_name(path.name.removesuffix(".index")) for path in folder.rglob("[!.]*.index")}
    found = found or {path for path in folder.rglob("*") if path.is_file() and is_table(path)}
    if len(found) != 1:
        names = ", ".join(sorted(str(path.relative_to(folder)) for path in found)) or "none"
        raise StudyError(f"{shown} should hold one checkpoint, found {names}" + (": name one of them" if found else ""))
    return found.pop()


def _is_safetensors(path: Path) -> bool:
    try:
        with safe_open(path, "pt"):
            return True
    except SafetensorError:
        return False


def _load_safetensors(path: Path, backbone: nn.Module) -> None:
    try:
        new = {name: value for name, value in load_file(path).items() if not name.startswith(CLASSIFIER)}
    except (OSError, SafetensorError) as error:
        raise StudyError(f"{path} cannot be read as safetensors: {error}") from error
    state = {name: value for name, value in backbone.state_dict().items() if not name.endswith("num_batches_tracked")}
    new = {name: value for name, value in new.items() if not name.endswith("num_batches_tracked")}
    problems = [f"missing: {name}" for name in state if name not in new]
    problems += [f"left over: {name}" for name in new if name not in state]
    problems += [f"shape of {name}: {list(new[name].shape)} there, {list(value.shape)} here"
                 for name, value in state.items() if name in new and new[name].shape != value.shape]
    problems += [f"{name} is {value.dtype}, no fractions" for name, value in new.items() if not value.is_floating_point()]
    if problems:
        raise StudyError(f"the weights in {path} do not fit this backbone:\n  " + "\n  ".join(problems))
    backbone.load_state_dict(new, strict=False)  # strict but for num_batches_tracked
