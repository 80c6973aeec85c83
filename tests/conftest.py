"""Tests are for a CPU, whatever the machine has: bytes are compared, and processes that train together are told to use Gloo."""
import os
import signal

import hypothesis
import pytest

hypothesis.settings.register_profile("tests", deadline=None)  # on a busy machine an example takes long and is not wrong
hypothesis.settings.load_profile("tests")


def pytest_configure(config):
    """Before anything imports torch."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in the background, where a shell has Ctrl-C ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def no_room():
    """no_room(path): the disk is full when files.atomic writes `path`."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    return lambda path: path.with_name(f".{path.name}.{os.getpid()}.part").symlink_to("/dev/full")
