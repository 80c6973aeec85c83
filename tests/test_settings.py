"""Settings: what is wrong is named by its key, before anything runs."""
import os
import re
import subprocess
import sys

import pytest

from pipeline import study as studies, written
from pipeline.schema import Training
from pipeline.study import ROOT, StudyError

TEXT = re.sub(r"(?m)^scale: \S+", "scale: miniature", (ROOT / "params.yaml").read_text())


def load(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return studies.load.__wrapped__(path)


def edited(pattern, replacement):
    text, count = re.subn(pattern, replacement, TEXT, count=1)
    assert count, pattern
    return text


@pytest.mark.parametrize("pattern, replacement, message", [
    (r"output_stride: 16  ", "output_stride: 12  ", r"runs\.t2-x2\.output_stride: Input should be 8, 16 or 32, got 12  \(and \d+ more"),
    (r"    seed: 0", "    seed: 99999999999999999999", r"runs\.t2-x2\.seed: Input should be less than 9223372036854775808"),
    (r"size: 97, seed: 1", "size: 97, seed: -1", r"scales\.miniature\.voc\.source\.generate\.seed: Input should be greater than or equal to 0, got -1$"),
    (r"test_scores: \{\}", "test_scores: {paper: {voc: {run: t6-test, strategy: os16, miou: 0.85}}}", r"test_scores\.paper\.voc\.miou: Input should be greater than or equal to 1, got 0\.85$"),
    (r"(?m)^runs:", "run:", r"\n  run: unknown key \(did you mean runs\?\)"),
    (r"    seed: 0", "    sead: 0", r"runs\.t2-x2\.sead: unknown key \(did you mean seed\?\)"),
    (r"  t1-c8: \[\*os16\]", "  t1-c9: [*os16]", r"evaluate\.t1-c9: there is no run 't1-c9' \(did you mean t1-c8\?\)"),
    (r"  t1-c8: \[\*os16\]", "  t1-c8: [os61]", r"evaluate\.t1-c8: there is no strategy 'os61' \(did you mean os16"),
    (r"decoder: \"\[3x3,128\]\"", "decoder: \"[3x5,128]\"", r"runs\.t2-128: decoder must be none, or as Table 2 writes it, such as \[3x3,256\]x2; got '\[3x5,128\]'"),
    (r"decoder: \"\[3x3,128\]\"", "decoder: \"[3x3,128]x0\"", r"runs\.t2-128: decoder must be none"),
    (r"low_level: \[conv2, conv3\]", "low_level: [conv3, conv2]", r"runs\.t2-conv3: low_level must be \[conv2\], \[conv3\] or \[conv2, conv3\]"),
    (r"  t1-c8: \[\*os16\]", "  t1-c8: [*os16, *os16]", r"evaluate\.t1-c8: \*os16 is there twice"),
    (r"scales: \[0\.75, 1\.0, 1\.25\]", "scales: [0.75, 1.0, 0.75]", r"strategies\.os8-ms3-flip\.scales: 0\.75 is there twice"),
    (r"low_level_channels: 8}", "low_level_channels: 0}", r"runs\.t1-c8\.low_level_channels: .*greater than 0, got 0"),
    (r"start: weights/xception65}", "start: weights/xception6}", r"runs\.t5-dec\.start: there is no weight 'xception6' \(did you mean xception65\?\)"),
    (r"start: weights/xception65}", "start: weights/resnet101}", r"runs\.t5-dec\.start: weights/resnet101 does not fit backbone xception65"),
    (r"(?m)^scale: \S+", "scale: minature", r"scale: there is no scale 'minature' \(did you mean miniature\?\)"),
    (r"source: {generate: {train: 320, val: 64, size: 97, seed: 1}}", "source: {folder: a, generate: {train: 1, val: 1, size: 97, seed: 1}}", r"scales\.miniature\.voc\.source: name exactly one of generate, folder, archives"),
    (r"source: {generate: {train: 320, val: 64, size: 97, seed: 1}}", "source: {folder: ./artifacts/../artifacts/tiny/data/voc}", r"scales\.miniature\.voc\.source\.folder: lies in artifacts/, where DVC deletes"),
    (r"source: {folder: \.\./shared/data/VOCdevkit}", "source: {folder: a, classes: [dent]}", r"scales\.own-data\.voc\.source\.classes: .*at least 2 items"),
    (r"source: {folder: \.\./shared/data/VOCdevkit}", "source: {folder: a, classes: [dent, scratch, dent]}", r"scales\.own-data\.voc\.source\.classes: dent is there twice"),
    (r"source: {folder: \.\./shared/data/VOCdevkit}", "source: {folder: a, classes: [dent, a/b]}", r"scales\.own-data\.voc\.source\.classes\.1: a name has letters, digits, spaces, - and _ only, at most 40, got 'a/b'$"),
    (r"source: {folder: \.\./shared/data/VOCdevkit}", "source: {folder: a, classes: [dent, no]}", r"scales\.own-data\.voc\.source\.classes\.1: Input should be a valid string, got False$"),
    (r"source: {folder: \.\./shared/data/VOCdevkit}", f"source: {{folder: a, classes: [{', '.join(f'c{number}' for number in range(256))}]}}", r"scales\.own-data\.voc\.source\.classes: .*at most 255 items"),
    (r"source: {archives: \[\*voc-trainval\]}", "source: {archives: [*voc-trainval], classes: [a, b]}", r"scales\.zoo\.voc\.source: classes are named of a folder"),
    (r"md5: 6cd6e144f989b92b3379bac3b3de84fd", "md5: 6cd6e144", r"scales\.paper\.voc\.source\.archives\.0\.md5: an MD5 has 32 of 0-9, a-f, got '6cd6e144'"),
    (r"canvas: \[97, 193\]", "canvas: [97, 192]", r"scales\.miniature\.cityscapes: evaluate has a side of 192 pixels: write 193, as 16k\+1"),
    (r"crop: 257", "crop: 258", r"scales\.own-data\.voc: train has a side of 258 pixels: write 273, as 16k\+1"),
    (r"size: 97, seed: 1", "size: 16, seed: 1", r"scales\.miniature\.voc\.source\.generate\.size: Input should be greater than or equal to 17, got 16$"),
    (r"runs:\n", "runs: [\n", r"^params\.yaml, line \d+: .*: look at indentation, quotes and brackets$"),
    (r"  t1-c8: \[\*os16\]", "  t1-c8: [{output_stride: 16, scales: [0.9], flip: false}]", r"evaluate\.t1-c8: {.*} is none of `strategies`: add it there"),
    (r"  t1-c8: \[\*os16\]", "  t1-c8: []", r"evaluate\.t1-c8: .*at least 1 item"),
    (r"(?m)^zoo:", "zoo:\n  empty:", r"zoo\.empty\.published: this key is missing"),
    (r"  # Table 7a:.*\n", "  a: {<<: *decoder, start: runs/b}\n  b: {<<: *decoder, start: runs/c}\n  c: {<<: *decoder, start: runs/a}\n", r"runs\.a\.start: a, b, c start from each other"),
    (r"(?ms)^zoo:.*?^(?=\w)", "zoo: [five]\n", r"^params\.yaml is not a valid study:\n  zoo: networks by their names are wanted here$"),
    (r"(?ms)^runs:.*?^(?=\w)", "runs: [five]\n", r"\n  runs: Input should be a valid dictionary"),
    (r"(?m)^zoo:", "zoo:\n  five: 5", r"zoo\.five: a network's settings are wanted here, such as published: ADDRESS$"),
    (r"atrous_rates: \[2, 4, 6\]", "atrous_rates: [2, 0, 6]", r"scales\.miniature\.network\.atrous_rates\.1: Input should be greater than 0, got 0$"),
    (r"units: \[2, 2, 3, 1\]", "units: [2, 2, -2, 1]", r"scales\.miniature\.network\.backbones\.resnet101\.units\.2: Input should be greater than 0, got -2$"),
    (r"units: \[2, 2, 3, 1\]", "units: [2, 1, 3, 1]", r"scales\.miniature\.network\.backbones\.resnet101\.units\.1: Input should be greater than or equal to 2, got 1$"),
    (r"units: \[2, 2, 3, 1\], ", "", r"scales\.miniature\.network\.backbones\.resnet101\.units: this key is missing$"),
    (r"xception65: {middle: 16}", "xception65: {}", r"scales\.zoo\.network\.backbones\.xception65\.middle: this key is missing$"),
    (r"middle: 2,", "middle: -2,", r"scales\.miniature\.network\.backbones\.xception65\.middle: Input should be greater than or equal to 0, got -2$"),
    (r"  t1-c8: \[\*os16\]", "  t1-c8: [5]", r"^params\.yaml is not a valid study:\n  evaluate\.t1-c8\.0: Input should be a valid string, got 5$"),
    (r"scales: \[0\.75, 1\.0, 1\.25\]", "scales: [.nan]", r"^params\.yaml is not a valid study:\n  strategies\.os8-ms3-flip\.scales\.0: Input should be a finite number, got nan$"),
    (r"power: 0\.9\n", "power: .inf\n", r"scales\.miniature\.voc\.train\.power: Input should be a finite number, got inf  \(and \d+ more"),
    (r"source: {generate: {train: 320.*}", "source: {folder: ''}", r"scales\.miniature\.voc\.source\.folder: .* at least 1 character"),
    (r"published: http.*train_aug_2018_01_04.*\n", "published: ''\n", r"zoo\.xception65_coco_voc_trainaug\.published: .* at least 1 character"),
    (r"middle: 2", "middle: yes", r"scales\.miniature\.network\.backbones\.xception65\.middle: a number is wanted, got true$"),
    (r"(?m)^  t1-c8: ", "  no: {<<: *decoder, seed: 9}\n  t1-c8: ", r"runs\.0: YAML takes this name for False: write it in quotes$"),
    (r"(?m)^  t1-c8: ", f"  {'x' * 101}: {{<<: *decoder, seed: 9}}\n  t1-c8: ", r"runs\.x{101}: a name has .* only, at most 100$"),
    (r"  t1-c8: \[\*os16\]", "  t1-c8: [&os16]", r"^params\.yaml, line \d+: &os16 is there twice: \*os16 takes it over$"),
    (r"crop: 97", "crop: 16", r"scales\.miniature\.voc\.train\.crop: Input should be greater than 16, got 16  \(and \d+ more"),
    (r"(?s).*", "", r"there are no settings in it"),
    (r"    start: weights/resnet101 .*\n", "", r"runs\.t2-x2: a network is trained from `start`, or .* name one of the two"),
    (r"    published: http.*train_aug_2018_01_04.*\n", "", r"zoo\.xception65_coco_voc_trainaug\.published: this key is missing"),
    (r"(?m)^  xception65_coco_voc_trainaug: &", "  t1-c8: &", r"zoo\.t1-c8: there is a run of that name, too"),
    (r"  t1-c8: \[\*os16\]", "  t1-c8: [*plain]", r"^params\.yaml, line \d+: there is no \*plain$"),
    (r"  t1-c8: \[\*os16\]", "  t1-c8: [*os61]", r"^params\.yaml, line \d+: there is no \*os61 \(did you mean \*os16\?\)$"),
    (r"(?m)^  os32: ", "  plain: {output_stride: 16, scales: [1.0], flip: false}\n  os32: ", r"strategies\.os16: it is plain by another name"),
    (r"  t1-c8: \[\*os16\]", "  t1-c8: *os16", r"evaluate\.t1-c8: a list is wanted, in \[ \], got {"),
    (r"  t1-c8: \[\*os16\]", "  t1-c8: [os16]", r"evaluate\.t1-c8: write \*os16, not os16"),
    (r"  t1-c8: \[\*os16\]", "  t1-c16: [*os16]", r"^params\.yaml, line \d+: t1-c16 is there twice$"),
    (r"(?m)^  t1-c8: ", "  t1.c8: ", r"runs\.t1\.c8: a name has letters, digits, - and _ only"),
    (r"(?m)^  t1-c8: ", "  t1/c8: ", r"runs\.t1/c8: a name has letters, digits, - and _ only"),
    (r"(?m)^  t1-c8: ", "  t1_c16: {<<: *decoder}\n  t1-c8: ", r"runs\.t1-c16: it differs from t1_c16 in - and _, or in capitals, only|runs\.t1_c16: it differs from t1-c16"),
    (r"(?m)^  t1-c8: ", "  T1-C16: {<<: *decoder}\n  t1-c8: ", r"runs\.t1-c16: it differs from T1-C16 in|runs\.T1-C16: it differs from t1-c16 in"),
    (r"(?m)^  tiny:\n", "  my scale:\n", r"scales\.my scale: a name has letters, digits, - and _ only"),
    (r"(?m)^  tiny:\n", "  x$(touch PWNED):\n", r"a name has letters, digits, - and _ only"),
    (r"(?m)^  t1-c8: &?", "  resnet101: ", r"runs\.resnet101: a backbone has this name, too"),
    (r"(?m)^  t1-c8: ", "  t1-c8-s1: {<<: *decoder, decoder: \"[3x3,256]\", low_level_channels: 8}\n  t1-c8: ", r"runs\.t1-c8: it is t1-c8-s1 by another name"),
    (r"name: VOC2012test.tar", "name: benchmark.tgz", r"scales\.paper\.voc\.source\.archives: benchmark\.tgz is there twice"),
    (r"start: runs/t5-coco, recipe", "start: weights/xception65, recipe", r"runs\.t6-test\.start: a run at output_stride 8 trains with frozen batch norm"),
    (r"start: runs/coco-x65,", "start: coco-x65,", r"runs\.t5-coco\.start: it is weights/BACKBONE or runs/RUN, not 'coco-x65' \(did you mean runs/coco-x65\?\)"),
    (r"start: runs/coco-x65,", "start: runs/coco-x56,", r"runs\.t5-coco\.start: there is no run 'coco-x56' \(did you mean coco-x65\?\)"),
    (r"start: runs/coco-x65,", "start: runs/t2-x2,", r"runs\.t5-coco\.start: runs/t2-x2 is another network, it differs in backbone, separable"),
    (r"start: runs/coco-x65,", "start: runs/t7-dec,", r"runs\.t5-coco\.start: runs/t7-dec is another network, it differs in dataset"),
    (r"start: runs/coco-x65,", "start: runs/t5-coco,", r"runs\.t5-coco\.start: a run cannot start from itself"),
    (r"start: runs/coco-x65,", "start: runs/mobilenetv2_coco_voc_trainaug,", r"runs\.t5-coco\.start: runs/mobilenetv2_coco_voc_trainaug is another network, it differs in backbone, decoder, atrous$"),
    (r"    zoo: null  .*\n", "    zoo: [xception65_coco]\n", r"scales\.miniature\.zoo: there is no zoo network 'xception65_coco' \(did you mean xception65_coco_voc_trainaug\?\)"),
    (r"    zoo: null  .*\n", "", r"scales\.miniature\.zoo: this key is missing: the stage fetch looks it up; write null where the scale has none"),
    (r"\nruns:\n", "\nruns:\n  mine: {<<: *decoder}\n", r"params\.yaml, line \d+: \*decoder stands above the line that has &decoder: move it below$"),
    (r"  os8: +&os8 ", "  os8: ", r"params\.yaml, line \d+: there is no \*os8: write &os8 behind os8: in line \d+$"),
    (r"(?m)^  t1-c8: +{", "  t1-c8: {recipe: slow, ", r"scales\.miniature\.voc\.slow: this key is missing: runs\.t1-c8 looks it up"),
    (r"      trainval: null  .*\n", "\\g<0>      slow: {<<: *miniature-train, crop: 98}\n", r"scales\.miniature\.voc: slow has a side of 98 pixels: write 113"),
    (r"(?m)^      evaluate_batch: 8", "      evaluate_batchs: 8", r"voc\.evaluate_batchs: keys and values are wanted here, .* \(did you mean evaluate_batch\?\), got 8"),
    (r"    recipe: train  .*\n", "", r"runs\.t2-x2\.recipe: this key is missing"),
    (r"      trainval: null  .*\n", "", r"scales\.miniature\.voc\.trainval: this key is missing: runs\.t6-test looks it up; write null"),
    (r"      trainval: null  .*\n", "      trainval: *absent\n", r"line \d+: \*absent stands above the line that has &absent: move it below$"),
    (r"        mobilenetv2_050: null\n", "", r"scales\.miniature\.network\.backbones\.mobilenetv2_050: this key is missing"),
])
def test_a_mistake_is_named_by_its_key(tmp_path, pattern, replacement, message):
    with pytest.raises(StudyError, match=message):
        load(tmp_path, edited(pattern, replacement))


@pytest.mark.parametrize("folder", ["artifacts/miniature/data/voc/VOCdevkit", "artifacts/paper/data/voc", "mine", "large/voc"])
def test_a_source_that_stages_would_delete_is_refused(tmp_path, monkeypatch, folder):
    """However links lead there, and though the data are on another disk."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "large/voc/VOCdevkit").mkdir(parents=True)
    (tmp_path / "artifacts/miniature").mkdir(parents=True)
    (tmp_path / "artifacts/miniature/data").symlink_to(tmp_path / "large")
    (tmp_path / "mine").symlink_to("artifacts/miniature/data/voc")
    with pytest.raises(StudyError, match=r"scales\.miniature\.voc\.source\.folder: lies in artifacts/, where DVC deletes"):
        load(tmp_path, edited(r"source: {generate: {train: 320, val: 64, size: 97, seed: 1}}", f"source: {{folder: {folder}}}"))


def test_a_data_set_is_asked_for_where_it_is_studied_only(tmp_path):
    text = edited(r"(?m)^    coco: \*absent\n", "")
    assert load(tmp_path, text).scales["own-data"].coco is None
    with pytest.raises(StudyError, match=r"scales\.own-data\.coco\.train: this key is missing: runs\.coco-x65 looks it up"):
        load(tmp_path, text.replace("scale: miniature", "scale: own-data", 1))
    raw = written.read(ROOT / "params.yaml")
    assert list(written.problems(raw, "miniature", ("voc", "another"))) == [
        "scales.miniature.another.source: this key is missing: download@another looks it up; write null where the scale has none"]


def test_weights_fit_where_the_classes_are_the_same():
    study = studies.load()
    other = study.runs["t5-coco"].model_copy(update={"dataset": "another"})
    with pytest.raises(ValueError, match="coco-x65 is another network, it differs in dataset$"):
        study._fits("mine", other, "coco-x65")


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe scale")
    with pytest.raises(StudyError, match="params.yaml is no text in UTF-8"):
        studies.load.__wrapped__(tmp_path / "params.yaml")


def test_settings_are_utf_8_whatever_the_locale_is():
    """As on older systems, ISO-8859-1; C here, which all machines have."""
    read = "from pipeline import study; from stages import checks; checks.check(study.load())"
    subprocess.run([sys.executable, "-c", read], cwd=ROOT, check=True,
                   env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})


def test_a_scale_that_only_fine_tunes_trains(tmp_path):
    study = load(tmp_path, TEXT).model_copy(update={"scale": "own-data"})
    voc = study.settings.voc
    assert study.settings.trains
    one_more = voc.model_copy(update={"train": None, "slow": voc.train})
    assert study.settings.model_copy(update={"voc": one_more}).trains
    assert not study.settings.model_copy(update={"voc": voc.model_copy(update={"train": None})}).trains


def test_what_train_settings_may_leave_out_is_as_scale_paper_has_it(tmp_path):
    """As the comments there say; such a default is in no params that DVC tracks, so it may not change."""
    paper = load(tmp_path, TEXT).scales["paper"].voc.train.model_dump()
    defaults = {name: field.default for name, field in Training.model_fields.items() if not field.is_required()}
    assert defaults and {name: paper[name] for name in defaults} == defaults


def test_what_a_scale_lacks_is_said_in_one_sentence():
    study = studies.load().model_copy(update={"scale": "paper"})
    assert study.skipped("t2-x2") is None
    assert "name them in scales.paper.coco.source" in study.skipped("coco-x65")
    assert "scales.paper.coco.source" in study.skipped("t5-coco"), "a run whose start is skipped is skipped"
    assert "no mobilenetv2_100" in study.skipped("own-mobilenet")
    assert "make study SCALE=zoo" in study.skipped("xception65_coco_voc_trainaug")
    small = study.scales["miniature"]
    untrained = small.model_copy(update={"cityscapes": small.cityscapes.model_copy(update={"train": None})})
    untrained = study.model_copy(update={"scale": "miniature", "scales": {"miniature": untrained}})
    assert untrained.skipped("t7-dec") == "scale miniature does not say how to train it: no scales.miniature.cityscapes.train"
    zoo = study.model_copy(update={"scale": "zoo"})
    assert zoo.skipped("xception65_coco_voc_trainaug") is None and "trains nothing" in zoo.skipped("t2-x2")
    assert "scales.zoo.cityscapes.source" in zoo.skipped("xception65_cityscapes_trainfine")
