"""Tests are for a CPU, whatever the machine has: bytes are compared, and processes that train together are told to use Gloo."""
import os


def pytest_configure(config):
    """Before anything imports torch."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
