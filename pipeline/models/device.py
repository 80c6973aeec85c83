"""Where tensors live: the GPU if there is one."""
import contextlib

import torch


def pick() -> torch.device:
    """The first CUDA device, else the CPU. On CUDA, cuDNN picks its fastest kernels and float32 convolutions use TF32."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda")


def autocast(device: torch.device):
    """bfloat16 activations with float32 weights on a GPU; plain float32 on a CPU."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()


def describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
