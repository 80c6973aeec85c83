"""The data sheet: counts agree with numpy's, its digest with the pixels; what it shows to be wrong stops the stage."""
import json

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from pipeline import schema, study
from pipeline.datasets import preparation, sheet, voc
from pipeline.study import StudyError
from stages import download, prepare
from tests import changed

labels = arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 20, 255]))


@given(labels)
def test_counts(label):
    np.testing.assert_array_equal(sheet.counts(label), np.bincount(label.ravel(), minlength=256))


@given(labels, st.integers(0, 80), st.integers(1, 255))
def test_the_total_moves_with_any_byte(label, place, change):
    other = label.copy()
    other.ravel()[place % label.size] ^= change
    assert sheet.total(other) != sheet.total(label) == sheet.total(label.copy())


def test_the_digest_is_of_the_pixels_however_the_work_was_cut(root, tmp_path, monkeypatch):
    def digest(name):
        items = voc.splits(root)["val"]
        return preparation.write_shard(tmp_path / name / "val.arrow", tmp_path / name / "parts", "voc", voc.classes(root), items)["digest"]
    first = digest("a")
    monkeypatch.setattr(preparation, "PART", 2)
    assert digest("b") == first
    image = voc.splits(root)["val"][3].image
    Image.fromarray(255 - np.asarray(Image.open(image))).save(image, quality=95)
    assert digest("c") != first, "another picture under the same labels"


def test_images_that_do_not_fit_the_canvas_are_found_before_anything_is_trained(tiny, monkeypatch):
    narrow = tiny.settings.voc.evaluate.model_copy(update={"canvas": (49, 33)})
    monkeypatch.setattr(study, "load", lambda: changed.dataset(tiny, "voc", evaluate=narrow))
    download.main("voc")
    with pytest.raises(StudyError, match=r"voc's split val have up to \d+x49 pixels \(height x width\).* canvas .* has 49x33: enlarge evaluate.canvas of voc"):
        prepare.main("voc")


def test_generated_voc_has_a_quarter_of_its_images_in_the_official_list(tiny, monkeypatch):
    monkeypatch.setattr(study, "load", lambda: changed.training(tiny, "voc", split="train"))
    download.main("voc")
    prepare.main("voc")
    counted = json.loads((tiny.artifacts("shards", "voc") / "sheet.json").read_text())["splits"]["train"]["images"]
    assert counted == tiny.settings.voc.source.generate.train // 4


def test_the_paper_scale_has_room_for_its_data_sets():
    """The largest images: VOC 500, COCO 640 pixels, Cityscapes 1024x2048."""
    paper = study.load().scales["paper"]
    assert all(canvas >= side for name, sides in {"voc": (500, 500), "coco": (640, 640), "cityscapes": (1024, 2048)}.items()
               for canvas, side in zip(getattr(paper, name).evaluate.canvas, sides)), schema.Evaluation.__doc__
