"""The paper's augmentation, section 4: random scale, pad, random crop, random left-right flip; nothing else.

Scale, pad, crop and flip are index arithmetic, so an image is resampled once, on the device it lives on, and only
where the crop needs it. Equal to the authors' order (resize, pad, crop, flip; input_preprocess.py), tested against it.
"""
import torch
import torch.nn.functional as F

from pipeline.datasets.shards import VOID

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
MEAN_PIXEL = 127.5


def cut(image: torch.Tensor, label: torch.Tensor, scale: float, top: float, left: float, flip: bool, pixels: torch.Tensor,
        labels: torch.Tensor) -> None:
    """Cut one crop into `pixels`, (crop, crop, 3) float32 in [0, 255], and `labels`, (crop, crop) of any integer type.

    image: (H, W, 3) uint8; label: (H, W) uint8; top, left: in [0, 1), the crop's place among those possible. Beyond the scaled
    image: mean pixel and void.
    """
    crop = len(labels)
    (rows, y), (columns, x) = (_source(side, scale, place, crop, image.device) for side, place in
                               ((image.shape[0], top), (image.shape[1], left)))
    x = x.flip(0) if flip else x
    place, beside = slice(len(x)), slice(len(x), None)
    if flip:
        place, beside = slice(crop - len(x), None), slice(crop - len(x))
    for beyond in ((slice(len(y), None),), (slice(None), beside)):
        pixels[beyond], labels[beyond] = MEAN_PIXEL, VOID
    strip = label[rows]
    strip = strip.gather(1, (x + 0.5).long().expand(len(strip), -1))  # on a CPU a fifth of the time that index_select takes here
    labels[:len(y), place] = strip.index_select(0, (y + 0.5).long() - rows.start)
    part = image[rows].float()[:, columns].permute(2, 0, 1)[None]
    grid = torch.empty(1, len(y), len(x), 2, device=image.device)
    for each, at, span, side in ((0, x, columns, part.shape[3]), (1, y[:, None], rows, part.shape[2])):
        grid[..., each] = (at - span.start) * (2 / max(side - 1, 1)) - 1
    sampled = F.grid_sample(part, grid, mode="bilinear", padding_mode="border", align_corners=True)
    pixels[:len(y), place] = sampled[0].permute(1, 2, 0)


def _source(size: int, scale: float, place: float, crop: int, device) -> tuple[slice, torch.Tensor]:
    """Coordinates in the unscaled image of `crop` consecutive pixels of the scaled one, as far as they exist, and the part of the
    image that they lie in."""
    scaled = max(int(size * scale), 1)
    first = int(place * (max(scaled, crop) - crop + 1))
    end = min(first + crop, scaled)
    step = (size - 1) / (scaled - 1) if scaled > 1 else 0.0  # align_corners=True
    at = (torch.arange(first, end, device=device) * step).clamp(max=size - 1)
    return slice(max(int(first * step) - 1, 0), int((end - 1) * step) + 3), at


class Crops:
    """An endless stream of training batches from a split, random from `seed`; `state()` and `resume()` continue it exactly.

    split: one of data.py's. rank, world: of several processes that draw the same batch, this one cuts each world-th crop, from
    rank on.
    """

    def __init__(self, split, crop: int, batch: int, seed: int, rank: int = 0, world: int = 1):
        self.split, self.ids, self.crop, self.batch, self.mine = split, split.ids, crop, batch, slice(rank, None, world)
        self.generator = torch.Generator().manual_seed(seed)
        self.order: list[int] = []
        self.next = None  # the batch that comes next, drawn one ahead so that its images can be fetched meanwhile

    def __call__(self) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """pixels (N, 3, crop, crop) float32 in [0, 255], channels last; labels (N, crop, crop) int64; all the batch's numbers."""
        _, chosen, draws = self.next or self._draw()
        examples = self.split(chosen[self.mine])
        self.next = self._draw()
        self.split.expect(self.next[1][self.mine])
        device = examples[0][0].device
        pixels = torch.empty(len(examples), self.crop, self.crop, 3, device=device)
        labels = torch.empty(len(examples), self.crop, self.crop, dtype=torch.long, device=device)
        for (image, label), (scale, top, left, flip), *target in zip(examples, draws[self.mine], pixels, labels):
            cut(image, label, SCALES[int(scale * len(SCALES))], top, left, flip < 0.5, *target)
        return pixels.permute(0, 3, 1, 2), labels, chosen

    def _draw(self) -> tuple[dict, list[int], list[list[float]]]:
        """The state before, image numbers, and each crop's four random numbers."""
        before = {"order": list(self.order), "generator": self.generator.get_state()}
        while len(self.order) < self.batch:
            self.order += torch.randperm(len(self.ids), generator=self.generator).tolist()
        chosen, self.order = self.order[:self.batch], self.order[self.batch:]
        return before, chosen, torch.rand(self.batch, 4, generator=self.generator).tolist()

    def state(self) -> dict:
        return self.next[0] if self.next else {"order": list(self.order), "generator": self.generator.get_state()}

    def resume(self, state: dict) -> None:
        self.order, self.next = list(state["order"]), None
        self.generator.set_state(state["generator"].cpu())
