"""The paper's augmentation, section 4: random scale, pad, random crop, random left-right flip; nothing else.

Scale, pad, crop and flip are index arithmetic, so an image is resampled once, on the device it lives on, and only
where the crop needs it. Equal to the authors' order (resize, pad, crop, flip; input_preprocess.py), tested against it.
"""
import torch

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
MEAN_PIXEL = 127.5
VOID = 255


def scaled_crop(image: torch.Tensor, label: torch.Tensor, scale: float, top: float, left: float, flip: bool,
                crop: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut one crop.

    image: (H, W, 3) uint8; label: (H, W) uint8; top, left: in [0, 1), the crop's place among those possible.
    Returns (crop, crop, 3) float32 in [0, 255] and (crop, crop) uint8. Beyond the scaled image: mean pixel and void.
    """
    y, inside_y = _source(image.shape[0], scale, top, crop, image.device)
    x, inside_x = _source(image.shape[1], scale, left, crop, image.device)
    if flip:
        x, inside_x = x.flip(0), inside_x.flip(0)
    rows = _lerp(image, y, 0)
    pixels = _lerp(rows, x, 1)
    inside = inside_y[:, None] & inside_x[None, :]
    nearest = label[(y + 0.5).long()][:, (x + 0.5).long()]
    pixels = torch.where(inside[..., None], pixels, torch.full_like(pixels, MEAN_PIXEL))
    return pixels, torch.where(inside, nearest, torch.full_like(nearest, VOID))


def _source(size: int, scale: float, place: float, crop: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates in the unscaled image of `crop` consecutive pixels of the scaled one, and which of them exist."""
    scaled = max(int(size * scale), 1)
    offset = int(place * (max(scaled, crop) - crop + 1))
    at = torch.arange(offset, offset + crop, device=device)
    step = (size - 1) / (scaled - 1) if scaled > 1 else 0.0  # align_corners=True
    return (at.clamp(max=scaled - 1) * step).clamp(max=size - 1), at < scaled


def _lerp(image: torch.Tensor, at: torch.Tensor, dim: int) -> torch.Tensor:
    """Linear interpolation of `image` along `dim` at float coordinates."""
    low = at.long()
    weight = at - low
    high = (low + 1).clamp(max=image.shape[dim] - 1)
    weight = weight.view(-1, *[1] * (image.dim() - 1 - dim))
    return torch.lerp(image.index_select(dim, low).float(), image.index_select(dim, high).float(), weight)


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
        crops = [scaled_crop(image, label, SCALES[int(scale * len(SCALES))], top, left, flip < 0.5, self.crop)
                 for (image, label), (scale, top, left, flip) in zip(examples, draws[self.mine])]
        pixels, labels = (torch.stack(part) for part in zip(*crops))
        return pixels.permute(0, 3, 1, 2), labels.long(), chosen

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
