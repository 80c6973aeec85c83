"""A network over several processes: DistributedDataParallel, and the two kinds of layer that look across a batch's images."""
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.training.distributed import rank, total, world


def parallel(model: nn.Module) -> nn.Module:
    """What computes `model` with the other processes, some of its layers replaced in place; `model` itself where it is alone."""
    if world() == 1:
        return model
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) and child.weight.requires_grad:  # a frozen one has nothing to share
                setattr(parent, name, synchronised(child))
            elif isinstance(child, nn.Dropout):
                setattr(parent, name, SharedDropout(child.p))
    devices = [torch.cuda.current_device()] if next(model.parameters()).is_cuda else None
    return DistributedDataParallel(model, devices, forward_sync_buffers=False, gradient_as_bucket_view=True)


def synchronised(norm: nn.BatchNorm2d) -> nn.Module:
    """`norm` over all processes: torch's own on CUDA, SyncBatchNorm on a CPU."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(norm) if norm.weight.is_cuda else SyncBatchNorm(norm)


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, in place of `norm`, whose parameters it takes. torch's own needs CUDA."""

    def __init__(self, norm: nn.BatchNorm2d):
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self._parameters, self._buffers = norm._parameters, norm._buffers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        dtype, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))  # statistics need more than bfloat16's 8 bits
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        own, mean = mean, total(mean) / world()
        variance = total(variance + (own - mean).square()) / world()
        count = world() * x.numel() / x.shape[1]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        mean, scale, shift = (each[:, None, None] for each in (mean, self.weight * (variance + self.eps).rsqrt(), self.bias))
        return ((x - mean) * scale + shift).to(dtype)


class SharedDropout(nn.Dropout):
    """Dropout whose mask is drawn for the whole batch, as one process would; each takes its images' part."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        dtype = torch.promote_types(x.dtype, torch.float32)  # 1 / 0.9 is 0.2 % off in bfloat16
        mask = torch.empty((world() * len(x), *x.shape[1:]), dtype=dtype, device=x.device, memory_format=layout)
        return (x * mask.bernoulli_(1 - self.p).div_(1 - self.p)[rank()::world()]).to(x.dtype)
