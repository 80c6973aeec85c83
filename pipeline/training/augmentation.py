"""The paper's augmentation, section 4: random scale, pad, random crop, random left-right flip; nothing else."""
import torch

from pipeline.training.cutting import Draw, crops

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)


class Crops:
    """An endless stream of training batches from a split, random from `seed`; `state()` and `resume()` continue it exactly.

    split: one of data.py's. rank, world: of `world` processes that draw the same batch this one cuts the crops [rank::world].
    """

    def __init__(self, split, crop: int, batch: int, seed: int, rank: int = 0, world: int = 1):
        self.split = split
        self.ids = split.ids
        self.crop = crop
        self.batch = batch
        self.mine = slice(rank, None, world)
        self.generator = torch.Generator().manual_seed(seed)
        self.order: list[int] = []
        self.next = None  # the batch that comes next, drawn one ahead so that its images can be fetched meanwhile

    def __call__(self) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """pixels (N, 3, crop, crop) float32 in [0, 255], channels last; labels (N, crop, crop) int64; all the batch's numbers."""
        _, chosen, draws = self.next or self._draw()
        examples = self.split(chosen[self.mine])
        self.next = self._draw()
        self.split.expect(self.next[1][self.mine])
        pixels, labels = crops(examples, [Draw(SCALES[int(scale * len(SCALES))], top, left, flip < 0.5)
                                          for scale, top, left, flip in draws[self.mine]], self.crop)
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
