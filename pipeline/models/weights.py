"""A network's weights as a file, and how many they are."""
from pathlib import Path

from safetensors.torch import save as serialised
from torch import nn

from pipeline.files import write_file


def save(network: nn.Module, path: Path) -> None:
    """Write the state dict of `network` as safetensors. (By itself safetensors reports a full disk as no OSError.)"""
    write_file(path, serialised({name: value.contiguous() for name, value in network.state_dict().items()}))


def count_parameters(network: nn.Module) -> int:
    """How many numbers `network` learns."""
    return sum(parameter.numel() for parameter in network.parameters())
