"""What is asked of the settings beyond the schema, before anything runs."""
import re

import pytest

from pipeline import study as studies
from pipeline.study import StudyError
from stages import checks
from tests.test_settings import TEXT, load

TRAINVAL = r"(?m)^  t1-c8: \[\*os16\]", "  t6-test: [*os8]\n\\g<0>"
FINE_TUNE = r"(?m)^      fine_tune: null(\n.*\n +evaluate: .*classes.*)", r"      fine_tune: {<<: *paper-train, split: trainval}\1"
WITH_COCO = r"source: null( +# name a folder that holds COCO)", r"source: {folder: /data/coco}\1"  # from which both start
PUBLISHED = (r"(?m)^  t1-c8: \[\*os16\]", "  after: [*os8]\n\\g<0>"), (r"(?m)^(  t6-test:  .*start: runs/)t5-coco(.*)\n", "\\g<0>  after: {<<: *separable, start: runs/xception65_coco_voc_trainaug}\n"), (r"(    published: )http.*train_aug_2018_01_04.*\n", "\\1net\n    recipe: trainval\n"), (r"(?s)(\n  paper:.*?    zoo: )null", "\\1[xception65_coco_voc_trainaug]")
AFTER_IT = r"(?m)^  t1-c8: \[\*os16\]", "  after: [*os8]\n\\g<0>"


def checked(tmp_path, scale, *edits):
    """A run or backbone of one's own need not be there at every scale: the settings are loaded at one that tests read."""
    text = TEXT
    for pattern, replacement in edits:
        text, count = re.subn(pattern, replacement, text)
        assert count == 1, pattern
    checks.check_settings(load(tmp_path, text).model_copy(update={"scale": scale}))


@pytest.mark.parametrize("scale, edits, words", [
    ("paper", [WITH_COCO, TRAINVAL], r"^evaluate\.t6-test: t6-test trains on trainval, and would be scored on images of val that it has seen: take t6-test out of `evaluate`"),
    ("paper", [WITH_COCO, AFTER_IT, (r"(?m)^  t6-test:  .*\n", "\\g<0>  after: {<<: *separable, start: runs/t6-test, recipe: fine_tune, output_stride: 8}\n")],
     r"^evaluate\.after: t6-test trains on trainval"),
    ("paper", PUBLISHED, r"^evaluate\.after: xception65_coco_voc_trainaug trains on trainval"),
    ("own-data", [(r"split: val, canvas: \[513, 513\], classes", "split: train_aug, canvas: [513, 513], classes")],
     r"^evaluate\.own-mobilenet: own-mobilenet trains on train_aug, .* of train_aug that"),
], ids=["itself", "what it starts from", "a published start", "the same split"])
def test_no_network_is_scored_on_images_that_it_has_seen(tmp_path, scale, edits, words):
    with pytest.raises(StudyError, match=words):
        checked(tmp_path, scale, *edits)


def test_classes_that_are_scored_are_those_that_the_folder_names(tmp_path):
    own = r"source: {folder: \.\./shared/data/VOCdevkit}", "source: {folder: photos, classes: [background, scratch, dent]}"
    with pytest.raises(StudyError, match=r"scales\.own-data\.voc\.evaluate\.classes: there is no class 'cat' \(did you mean scratch\?\)"):
        checked(tmp_path, "own-data", own)
    with pytest.raises(StudyError, match=r"scales\.miniature\.cityscapes\.source\.classes: only under voc has a folder classes of its own"):
        checked(tmp_path, "miniature", (r"source: {generate: {train: 160, .*}", "source: {folder: photos, classes: [background, scratch]}"))
    checked(tmp_path, "own-data", own, ("classes: \\[background, cat, cow, dog, horse, sheep\\]", "classes: [scratch, dent]"))


@pytest.mark.parametrize("scale, edits", [*((scale, []) for scale in ("tiny", "miniature", "paper", "zoo", "own-data")), ("tiny", [TRAINVAL]), ("own-data", [FINE_TUNE])])
def test_what_is_scored_on_other_images_is_fine(tmp_path, scale, edits):
    """Also a run on trainval where the scale has none, or not its backbone: it is left out."""
    checked(tmp_path, scale, *edits)


def test_a_data_set_that_dvc_does_not_know_is_named(tmp_path, monkeypatch):
    text = (studies.ROOT / "dvc.yaml").read_text()
    (tmp_path / "dvc.yaml").write_text(text.replace("[voc, coco, cityscapes, imagenet]", "[voc, cityscapes, imagenet]", 1))
    monkeypatch.setattr(studies, "ROOT", tmp_path)
    with pytest.raises(StudyError, match=r"^dvc\.yaml: its first foreach lacks coco"):
        checks.check(studies.load())
