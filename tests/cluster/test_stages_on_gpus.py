"""On real GPUs (`python -m pytest -m gpu`): the stages train and evaluate there."""
import json

import pytest
import torch

from tests.engines.checkout import Checkout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: pytest -m gpu")
@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_the_stages_train_and_evaluate(tmp_path, count):
    """One run of the tiny study, on one GPU and, where there are two, on both."""
    if torch.cuda.device_count() < count:
        pytest.skip(f"needs {count} GPUs")
    checkout, name = Checkout(tmp_path), torch.cuda.get_device_name()
    checkout.run("dvc", "repro", "evaluate@t2-x2", STUDY_GPUS=str(count))
    for folder, device in (("runs", name if count == 1 else f"{count} x {name}"), ("facts", name)):
        record = json.loads((checkout.root / f"artifacts/tiny/{folder}/t2-x2/record.json").read_text())
        assert record["status"] == "done" and record["provenance"]["device"] == device
