"""A network's weights as a file, and how many they are."""
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from pipeline.records import atomic


def save(network: nn.Module, path: Path) -> None:
    """Write the state dict of `network` as safetensors."""
    with atomic(path) as partial:
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, partial)


def count_parameters(network: nn.Module) -> int:
    """How many numbers `network` learns."""
    return sum(parameter.numel() for parameter in network.parameters())
