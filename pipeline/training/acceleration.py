"""What makes a step fit or run faster: torch.compile, activation checkpointing, and advice when memory runs out."""
import contextlib
import functools
import warnings
from collections.abc import Callable

import torch
from torch import nn
from torch._functorch import config as lowering
from torch.utils.checkpoint import checkpoint

from pipeline.models import device as devices
from pipeline.schema import Training


def compiled(network: nn.Module) -> Callable:
    """`network` through torch.compile; as it is, after one warning, where that or compiling the backward pass fails, and where
    batch norm is synchronised between GPUs: torch's breaks the graph in each layer, and little is left to compile."""
    if any(isinstance(layer, nn.SyncBatchNorm) for layer in network.modules()):
        warnings.warn("compile: batch norm that is synchronised between GPUs is not compiled; going on without it", stacklevel=2)
        return network
    lowering.force_non_lazy_backward_lowering = True  # else it would fail outside of `forward`
    fast = torch.compile(network)

    def forward(x: torch.Tensor) -> torch.Tensor:
        nonlocal fast
        if fast is not None:
            try:
                return fast(x)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                fast = None
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                warnings.warn(f"torch.compile failed ({reason}); going on without it", stacklevel=2)
        return network(x)
    return forward


def adapt(model: nn.Module, training: Training) -> None:
    """Make `model` compute as `checkpoint_activations` and `cpu_bfloat16` of `training` say."""
    if training.checkpoint_activations:
        checkpoint_activations(model.backbone)
    device = next(model.parameters()).device
    if device.type == "cuda" or training.cpu_bfloat16:
        if not devices.has_bfloat16(device):
            which = "GPU" if device.type == "cuda" else "processor"
            warnings.warn(f"this {which} does not compute in bfloat16; going on in float32", stacklevel=2)
        elif device.type == "cpu":
            float32_depthwise(model)


def float32_depthwise(model: nn.Module) -> None:
    """Strided and atrous depthwise convolutions in float32 under autocast: their bfloat16 gradients take 2 to 10 times as long.

    Measured with oneDNN on AVX-512 BF16 (docs/performance.md)."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups > 1 and (layer.stride, layer.dilation) != ((1, 1), (1, 1)):
            layer.forward = functools.partial(_in_float32, layer)


def _in_float32(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        return nn.Conv2d.forward(layer, x.float()).to(x.dtype)


def checkpoint_activations(backbone: nn.Module) -> None:
    """Keep only the inputs of the backbone's units, and compute the inside again in the backward pass.

    Up to a third more computation (ResNet-101 with decoder: 18 %), the same bits: the second pass leaves statistics alone.
    """
    stacks = nn.ModuleList, nn.Sequential
    units = [child for parent in backbone.modules() if isinstance(parent, stacks) for child in parent
             if not isinstance(child, stacks) and sum(isinstance(part, nn.Conv2d) for part in child.modules()) > 1]
    for unit in units:
        unit.forward = functools.partial(_checkpointed, unit, unit.forward)


def _checkpointed(unit: nn.Module, forward: Callable, *inputs):
    if not torch.is_grad_enabled():
        return forward(*inputs)
    if torch.compiler.is_compiling():  # it records statistics once by itself, and cannot compile a context
        return checkpoint(forward, *inputs, use_reentrant=False)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _untracked(unit)))


@contextlib.contextmanager
def _untracked(unit: nn.Module):
    """Batch norms of `unit` compute their statistics and record nothing. (`track_running_stats` changes what autograd saves.)"""
    norms = [(norm, norm.momentum, norm.num_batches_tracked) for norm in unit.modules() if hasattr(norm, "num_batches_tracked")]
    for norm, _, count in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in norms:
            norm.momentum, norm.num_batches_tracked = momentum, count


def memory_advice(training: Training) -> str:
    """Which settings to change where memory does not suffice for this training."""
    ways = [f"a crop below {training.crop}", f"a batch below {training.batch}"]
    if parts := [parts for parts in range(training.accumulate + 1, training.batch // 2 + 1) if training.batch % parts == 0]:
        images = training.batch // parts[0]
        ways.insert(0, f"accumulate: {parts[0]} (now {training.accumulate}; batch norm then sees {images} images)")
    if not training.checkpoint_activations:
        ways.insert(0, "checkpoint_activations: true (up to a third more computation, same result)")
    return (f"In the data set's train settings (params.yaml), try {'; or '.join(ways)}. How runs that are trained already are "
            "kept: docs/troubleshooting.md")
