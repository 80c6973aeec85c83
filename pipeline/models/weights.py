"""A network's weights as a file, and how many they are."""
from pathlib import Path

from safetensors.torch import save as serialised
from torch import nn

from pipeline.files import write_file
from pipeline.study import StudyError


def save(network: nn.Module, path: Path) -> None:
    """Write the state dict of `network` as safetensors. (By itself safetensors reports a full disk as no OSError.) StudyError
    where a weight is NaN or infinite: label maps would not show it."""
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    if broken := [name for name, value in state.items() if not value.isfinite().all()]:
        raise StudyError(f"{path} would hold weights that are NaN or infinite, such as {broken[0]}: lower the training's "
                         "learning_rate; published weights are damaged: take others")
    write_file(path, serialised(state))


def count_parameters(network: nn.Module) -> int:
    """How many numbers `network` learns."""
    return sum(parameter.numel() for parameter in network.parameters())
