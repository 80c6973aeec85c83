"""The tiny study, run once, from scratch, by the command that the README gives."""
import time

import pytest

from tests.engines.checkout import Checkout


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Checkout:
    """The tiny study after one `make study`. `printed` and `seconds`: what that said and took."""
    checkout = Checkout(tmp_path_factory.mktemp("study"))
    started = time.monotonic()
    checkout.printed = checkout.make("study")
    checkout.seconds = time.monotonic() - started
    return checkout
