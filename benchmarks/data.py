"""How fast the data come: prepare against the bare decoders, and training crops against a DataLoader of torchvision.

    python benchmarks/data.py [--voc ../shared/data/VOCdevkit] [--only prepare|crops]

On a real VOC folder, both in one run, in turns; ratios of the quickest turns.

prepare: a split with all cores, from files to shards (decode, check, count, void distance, write), against
the same processes only decoding the same files: with Pillow, and with the decoders that prepare uses.
crops: augmented 513x513 crops (the paper's scales, padding, flip) from a shard, against torch's DataLoader, a worker on each
core, over torchvision's VOCSegmentation with its v2 transforms. Images per second of CPU time, all processes': per core.
"""
import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline import memory, records

os.environ.setdefault("OMP_NUM_THREADS", str(records.cores()))

import numpy as np
from PIL import Image

from pipeline.datasets import native, pool, preparation, voc
from pipeline.datasets.shards import Shard
from pipeline.datasets.trimap import void_distance

PREPARE, CROPS = 0.85, 3.0  # what we aim at
CROP, BATCH = 513, 16


def pillow(items: list[native.Item]) -> int:
    """What a program has to do that only wants the pixels."""
    return sum(np.asarray(Image.open(path)).size for item in items for path in (item.image, item.label))


def own(items: list[native.Item]) -> int:
    """The same with the decoders that prepare uses."""
    return sum(native.read_image(item.image).size + native.read_labels(item.label).size for item in items)


def bare(decode: Callable[[list[native.Item]], int], items: list[native.Item], workers: int) -> None:
    parts = [items[start:start + preparation.PART] for start in range(0, len(items), preparation.PART)]
    list(pool.mapped(decode, parts, workers=workers))


def prepared(split: str, items: list[native.Item], folder: Path, workers: int) -> None:
    preparation.write_shard(folder / f"{split}.arrow", folder / "parts", "voc", list(voc.CLASSES), items,
                            distances=split == "val", workers=workers)


def prepare(root: Path, turns: int) -> None:
    """Print prepare's speed as a share of the bare decoders'."""
    workers, found = pool.workers(), voc.splits(root)
    for split in ("train_aug", "val"):
        best = {}
        for _ in range(turns):
            with tempfile.TemporaryDirectory() as folder:
                for name, work in {"bare Pillow": partial(bare, pillow, found[split], workers),
                                   "its own decoders": partial(bare, own, found[split], workers),
                                   "prepare": partial(prepared, split, found[split], Path(folder), workers)}.items():
                    taken = spent(work)
                    best[name] = tuple(map(min, taken, best.get(name, taken)))
        for name, (wall, cpu) in best.items():
            ratios = best[name][0] / best["prepare"][0], best[name][1] / best["prepare"][1]
            print(f"prepare {split}: {name} {len(found[split]) / wall:.0f} images/s on {workers} cores, "
                  f"{1000 * cpu / len(found[split]):.2f} ms of CPU time; ratio {ratios[0]:.2f}, of CPU time {ratios[1]:.2f}"
                  + (f" (aim {PREPARE})" if name == "bare Pillow" else ""))
    labels = [native.read_labels(item.label) for item in found["val"][:100]]
    clocks = [per_image(lambda: [distance(label) for label in labels], len(labels)) for distance in (void_distance, exact)]  # noqa: B023
    print("of which the void distance of val takes {:.1f} ms an image and core (scipy's: {:.1f} ms)".format(*clocks))


def spent(work) -> tuple[float, float]:
    """Seconds by the clock, and of CPU time, its processes' included."""
    def cpu():
        both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(used.ru_utime + used.ru_stime for used in both)
    began, used = time.perf_counter(), cpu()
    work()
    return time.perf_counter() - began, cpu() - used


def exact(label: np.ndarray) -> np.ndarray:
    from scipy.ndimage import distance_transform_edt
    return np.minimum(np.ceil(distance_transform_edt(label != 255)), 255).astype(np.uint8)


def per_image(work, images: int) -> float:
    """Milliseconds of CPU time an image."""
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began) / images


def crops(root: Path, turns: int, batches: int) -> None:
    """Print how fast augmented training crops come, from a shard and from torch's DataLoader with a worker on each core."""
    import psutil
    import torch
    from torch.utils.data import DataLoader

    from pipeline.training.augmentation import Crops
    from pipeline.training.data import Mapped

    def kept(worker=0):
        memory.keep()

    def used() -> float:
        process = psutil.Process()
        return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children()))

    torch.set_num_threads(1)
    items = voc.splits(root)["train"]
    cores = {"num_workers": pool.workers(), "persistent_workers": True}
    peers = {name: DataLoader(torchvision_set(root), BATCH, sampler=Drawn(len(items), batches * BATCH), **how)
             for name, how in (("DataLoader", cores), ("the same, keeping memory as we do", cores | {"worker_init_fn": kept}),
                               ("the same in our process, without workers", {}))}
    for loader in peers.values():
        list(loader)  # its workers start here, before this process keeps memory
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.arrow"
        preparation.write_shard(path, Path(folder) / "parts", "voc", list(voc.CLASSES), items, workers=pool.workers())
        kept()  # as training does
        ours = Crops(Mapped(Shard(path)), CROP, BATCH, seed=0)
        takes = {"shards": lambda: [ours() for _ in range(batches)]}
        takes |= {name: lambda loader=loader: sum(1 for _ in loader) for name, loader in peers.items()}
        best = dict.fromkeys(takes, float("inf"))
        for _ in range(turns):
            for name, take in takes.items():
                before = used()
                take()
                best[name] = min(best[name], 1000 * (used() - before) / (batches * BATCH))
    for name, milliseconds in best.items():
        aim = f" (aim {CROPS:g})" if name == "DataLoader" else ""
        ratio = milliseconds / best["shards"]
        print(f"crops of {CROP}: {name} {1000 / milliseconds:.0f} images/s and core; ratio {ratio:.2f}{aim}")


class Drawn:
    """A sampler: `count` of `images` numbers, by another permutation at each epoch."""

    def __init__(self, images: int, count: int):
        self.images, self.count, self.rng = images, count, np.random.default_rng(0)

    def __len__(self) -> int:
        return self.count

    def __iter__(self):
        epochs = [self.rng.permutation(self.images) for _ in range(-(-self.count // self.images))]
        return iter(np.concatenate(epochs)[:self.count].tolist())


def torchvision_set(root: Path):
    """VOCSegmentation with the paper's augmentation in torchvision's v2 transforms: uint8 tensors, as it advises."""
    import torch
    from torchvision import tv_tensors
    from torchvision.datasets import VOCSegmentation, wrap_dataset_for_transforms_v2
    from torchvision.transforms import v2

    from pipeline.training.augmentation import SCALES

    class RandomScale(v2.Transform):
        def make_params(self, flat_inputs):
            scale = SCALES[torch.randint(len(SCALES), ()).item()]
            return {"size": [int(side * scale) for side in v2.functional.get_size(flat_inputs[0])]}

        def transform(self, value, params):
            return self._call_kernel(v2.functional.resize, value, params["size"], antialias=True)

    transforms = v2.Compose([
        v2.ToImage(), RandomScale(),
        v2.RandomCrop(CROP, pad_if_needed=True, fill={tv_tensors.Image: 127, tv_tensors.Mask: 255}), v2.RandomHorizontalFlip(),
        v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None})])
    home = voc.home(root).parents[1]
    return wrap_dataset_for_transforms_v2(VOCSegmentation(home, image_set="train", transforms=transforms))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voc", type=Path, default=Path(__file__).parents[2] / "shared/data/VOCdevkit", help="a VOC folder")
    parser.add_argument("--only", choices=["prepare", "crops"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batches", type=int, default=16, help="of 16 crops, a turn")
    given = parser.parse_args()
    if not given.voc.is_dir():
        sys.exit(f"{given.voc} is not there: name a VOC folder by --voc")
    if given.only != "crops":
        prepare(given.voc, given.turns)
    if given.only != "prepare":
        crops(given.voc, given.turns, given.batches)


if __name__ == "__main__":
    main()
