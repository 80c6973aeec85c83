"""The numbers of the paper's protocol are those that scale paper trains and evaluates with."""
import pytest

from pipeline import study as studies

# Sections are those of the shared protocol.md; "code" is the authors' released one, where the paper says nothing.
ALIKE = {
    "power": 0.9, "batch": 16, "optimiser": "sgd", "fine_tune_batch_norm": True,                      # section 5
    "batch_norm_decay": 0.9997,                                                                       # section 2: of ASPP and decoder
    "slow_start_steps": 0, "slow_start_learning_rate": 1e-4, "last_layer_gradient_multiplier": 1,     # code, train.py
}
PROTOCOL = {
    "voc.train": ALIKE | {"split": "train_aug", "steps": 30_000, "learning_rate": 0.007, "crop": 513},      # section 5
    "voc.fine_tune": ALIKE | {"split": "train_aug", "steps": 30_000, "learning_rate": 1e-4, "crop": 513},   # section 5: after COCO
    "voc.trainval": ALIKE | {"split": "trainval", "steps": 30_000, "learning_rate": 1e-4, "crop": 513},     # code, train.py
    "coco.train": ALIKE | {"split": "train", "steps": 300_000, "learning_rate": 0.007, "crop": 513},        # section 5: 300-500K
    "cityscapes.train": ALIKE | {"split": "train", "steps": 90_000, "learning_rate": 0.01, "crop": 769},    # section 5
    "voc.evaluate": {"split": "val", "canvas": (513, 513), "classes": None},                                # section 6
    "cityscapes.evaluate": {"split": "val", "canvas": (1025, 2049), "classes": None},                       # section 6
    "network": {"width": 1, "atrous_rates": (6, 12, 18)},                                                   # section 4, at output stride 16
}
BACKBONES = {
    "resnet101": {"weight_decay": 1e-4, "batch_norm_decay": 0.95},           # sections 5 and 2
    "xception65": {"weight_decay": 4e-5, "batch_norm_decay": 0.9997},        # sections 5 and 3
    "xception71": {"weight_decay": 4e-5, "batch_norm_decay": 0.9997},        # sections 5 and 3
    "mobilenetv2_100": {"weight_decay": 4e-5, "batch_norm_decay": 0.997},    # section 5; code, mobilenet.py
    "mobilenetv2_050": {"weight_decay": 4e-5, "batch_norm_decay": 0.997},    # section 5; code, mobilenet.py
}
SIZES = {
    "resnet101": {"units": (3, 4, 23, 3), "width": 1},       # section 2
    "xception65": {"middle": 16, "entry": 3, "width": 1},    # section 3
    "xception71": {"middle": 16, "entry": 5, "width": 1},    # section 3
}
STUDY = studies.load()
PAPER = STUDY.scales["paper"]


@pytest.mark.parametrize("where, key, values", [
    *((PAPER, key, values) for key, values in PROTOCOL.items()),
    *((STUDY, f"backbones.{name}", values) for name, values in BACKBONES.items()),
    *((PAPER, f"network.backbones.{name}", values) for name, values in SIZES.items())], ids=lambda value: value if isinstance(value, str) else "")
def test_what_the_paper_says_is_what_params_yaml_holds(where, key, values):
    for part in key.split("."):
        where = where[part] if isinstance(where, dict) else getattr(where, part)
    assert {name: getattr(where, name) for name in values} == values
