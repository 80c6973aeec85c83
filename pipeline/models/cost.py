"""What a network costs: multiply-adds, parameters, peak activation memory, counted on `meta` tensors (shapes without data).

How the paper counts (reconstructed; it fits 36 of the 38 cells of Tables 3 and 5 within 0.35 %, and the other two contradict
their own multi-scale row): convolutions only, one multiply-add is 1, batch 1. A convolution with atrous rate r > 1 counts on
the map that TensorFlow's space_to_batch pads for it, so that a side of n positions counts as the next multiple of r.
PyTorch convolves the map itself, without the taps that meet only padding (layers.convolve): that is `executed`. Resizing, batch
norm, activations, softmax: not counted in either.
"""
import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.datasets import native
from pipeline.models import deeplab
from pipeline.models.layers import scaled
from pipeline.models.weights import count_parameters
from pipeline.schema import Run, Strategy
from pipeline.study import Study

COLUMNS = ("madds_counted_as_paper", "madds_executed", "madds_here", "parameters_paper", "parameters_here",
           "activation_bytes_paper", "activation_bytes_here")


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of inference. Multiply-adds in ones, not 1e9; `activation_bytes`: the most that is alive at once, weights left out."""
    madds_counted_as_paper: int
    madds_executed: int
    activation_bytes: int


def padded(size: int, rate: int) -> int:
    """Positions along a side of `size` as space_to_batch pads it for a 3x3 convolution at atrous `rate`."""
    return -(-size // rate) * rate


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """The network that `build()` returns, in evaluation mode, without memory for its weights."""
    with torch.device("meta"):
        return build().eval()


def cost(network: nn.Module, canvas: tuple[int, int]) -> Cost:
    """Cost of one image of `canvas` (height, width) through a network made by `on_meta`."""
    with torch.no_grad(), Counter() as counter:
        network(torch.empty(1, 3, *canvas, device="meta"))
    return Cost(counter.as_paper, counter.executed, counter.peak)


def total(strategy: Strategy, canvas: tuple[int, int], single: Callable[[tuple[int, int]], Cost]) -> Cost:
    """Cost of a strategy: `single(size)` summed over its scales, doubled by flips; the memory is the largest pass's."""
    passes = [single(scaled(canvas, scale)) for scale in strategy.scales]
    times = 2 if strategy.flip else 1
    return Cost(times * sum(each.madds_counted_as_paper for each in passes), times * sum(each.madds_executed for each in passes),
                max(each.activation_bytes for each in passes))


class Counter(TorchDispatchMode):
    """Counts convolutions, and the bytes of the tensors alive, while operations run under it."""

    def __init__(self):
        super().__init__()
        self.as_paper = self.executed = self.alive = self.peak = 0
        self._seen = weakref.WeakSet()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation is torch.ops.aten.native_batch_norm.default:
            # Only shapes matter, and PyTorch's own way to them takes 2 ms: most of the time of the whole count.
            result = (torch.empty(args[0].shape, device="meta"), *(torch.empty(0, device="meta") for _ in range(2)))
        else:
            result = operation(*args, **(kwargs or {}))
        self._count(operation, args, result)
        return result

    def _count(self, operation, args, result):
        if operation is torch.ops.aten.convolution.default:
            self._convolution(weight=args[1], rates=args[5], sizes=result.shape[2:])
        if operation.is_view and isinstance(args[0], nn.Parameter):  # the weight's own memory
            return
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._memory(tensor.untyped_storage())

    def _convolution(self, weight, rates, sizes):
        self.executed += weight.numel() * sizes[0] * sizes[1]
        # All taps: layers.convolve leaves some out by a view. A strided convolution has no atrous rate in these networks, so the
        # map that is padded is as large as the output.
        whole = weight.untyped_storage().nbytes() // weight.itemsize
        self.as_paper += whole * padded(sizes[0], rates[0]) * padded(sizes[1], rates[1])

    def _memory(self, storage):
        if storage in self._seen:  # a view, or an operation in place
            return
        self._seen.add(storage)
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._free, size)

    def _free(self, size):
        self.alive -= size


def rows(study: Study) -> Iterator[dict]:
    """One dict for each (run, strategy) of `evaluate`: run, strategy and COLUMNS; multiply-adds in 1e9, parameters in 1e6, bytes.

    "paper": the network of scale paper on its canvas, whatever scale is studied, or of scale zoo where the network is published;
    "here": the studied scale's on its own canvas. None where the paper has no such backbone, or this scale skips the run.
    """
    paper, zoo, here = Costs(study, "paper"), Costs(study, "zoo"), Costs(study, study.scale)
    for name, strategies in study.evaluate.items():
        run = study.runs[name]
        for strategy in strategies:
            row = {"run": name, "strategy": strategy} | dict.fromkeys(COLUMNS)
            if (found := (zoo if run.published else paper).of(run, study.strategies[strategy])):
                counted, parameters = found
                row |= {"madds_counted_as_paper": counted.madds_counted_as_paper / 1e9,
                        "madds_executed": counted.madds_executed / 1e9, "parameters_paper": parameters / 1e6,
                        "activation_bytes_paper": counted.activation_bytes}
            if not study.skipped(name) and (found := here.of(run, study.strategies[strategy])):
                counted, parameters = found
                row |= {"madds_here": counted.madds_executed / 1e9, "parameters_here": parameters / 1e6,
                        "activation_bytes_here": counted.activation_bytes}
            yield row


def alike(run: Run) -> Run:
    """One of the runs that differ in data, training or seed only: the same network, but for its number of classes."""
    return run.model_copy(update={"dataset": "", "start": "", "published": None, "seed": 0, "recipe": "train",
                                  "output_stride": 16})


class Costs:
    """Costs at one scale. Runs that are `alike` and have as many classes are counted once."""

    def __init__(self, study: Study, scale: str):
        self.settings, self.backbones = study.scales.get(scale), study.backbones
        self._network = functools.cache(self._built)
        self._single = functools.cache(lambda canvas, *network: cost(self._network(*network), canvas))

    def single(self, run: Run, stride: int, canvas: tuple[int, int]) -> Cost:
        """Cost of one image of `canvas` (height, width) through the network of `run` at output stride `stride`."""
        return self._single(canvas, alike(run), self.classes(run), stride)

    def classes(self, run: Run) -> int:
        """How many classes the network of `run` tells apart at this scale."""
        return len(native.classes(run.dataset, None if run.published else getattr(self.settings, run.dataset)))

    def _built(self, run: Run, classes: int, stride: int) -> nn.Module:
        family = self.backbones[run.backbone].family
        return on_meta(lambda: deeplab.build(run, family, self.settings.network, classes, stride))

    def of(self, run: Run, strategy: Strategy) -> tuple[Cost, int] | None:
        """Cost and parameters, or None where this scale has no such backbone or data set."""
        if self.settings is None or run.backbone not in self.settings.network.backbones:
            return None
        data = getattr(self.settings, run.dataset)
        if data is None:
            return None
        stride = strategy.output_stride
        return (total(strategy, data.evaluate.canvas, lambda size: self.single(run, stride, size)),
                count_parameters(self._network(alike(run), self.classes(run), stride)))
