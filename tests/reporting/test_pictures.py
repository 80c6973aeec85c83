"""Pictures on demand: the right images in the right order, panels that show what the arrays say, mistakes named."""
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from pipeline import records, study as studies
from pipeline.datasets import shards
from pipeline.evaluation import measure
from pipeline.paper.rows import rows
from pipeline.reporting import panels, pictures
from pipeline.study import StudyError
from pipeline.tracking import entries
from stages import pictures as stage
from tests import changed
from tests.reporting import fake_study


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder := tmp_path_factory.mktemp("study"))
        study = studies.load()
        fake_study.write(changed.of_runs(study, "t2-x2", "t3-os16-nodec", "t7-dec"), images=6, size=49)
        records.write(study.artifacts("facts", "t2-128"), status="skipped", reason="no images")
    return folder


@pytest.fixture
def study(home, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    return studies.load()


def test_panels_show_image_truth_prediction_and_errors():
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    truth, guess = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)
    truth[:5], guess[:, :3] = 255, 2
    palette = bytes([0, 0, 0, 9, 9, 9, 1, 2, 3]).ljust(765, b"\0") + bytes(panels.CREAM)
    drawn = {words: Image.open(io.BytesIO(data)).convert("RGB") for words, data, _ in
             panels.draw(image, truth, {"prediction": guess}, palette, None)}
    assert list(drawn) == ["image", "truth", "prediction", "errors"]
    assert np.array_equal(np.asarray(drawn["image"]), image)
    assert drawn["truth"].getpixel((9, 0)) == panels.CREAM and drawn["prediction"].getpixel((0, 9)) == (1, 2, 3)
    for at, expected in (((0, 0), panels.CREAM), ((0, 9), panels.WRONG), ((9, 9), panels.RIGHT)):
        assert drawn["errors"].getpixel(at) == expected
    assert drawn["truth"].getpixel((9, 9)) == panels.RIGHT, "black would swallow dark classes"
    case = panels.Case("a", "", panels.draw(image, truth, {"b": guess}, palette, None))
    plain, marked = (Image.open(io.BytesIO(panels.strip([case], 2, mark))) for mark in ("", "no result"))
    assert plain.size == (4 * 60 + 3 * panels.GAP, 40 + 2 * panels.LINE)
    assert says_what_it_is_not(marked) and not says_what_it_is_not(plain)
    assert plain.tobytes() == marked.crop((0, panels.LINE, *marked.size)).tobytes()


def says_what_it_is_not(picture: Image.Image) -> bool:
    """Whether there are words in the colour of a warning in the first line of a picture."""
    return panels.WRONG in {colour for _, colour in picture.crop((0, 0, picture.width, panels.LINE)).getcolors(1 << 20)}


def test_strategies_in_another_order_than_was_evaluated(study):
    first, *others = study.evaluate["t2-x2"]
    other = study.model_copy(update={"evaluate": study.evaluate | {"t2-x2": (*others, first)}})
    with pytest.raises(StudyError, match=f"the evaluation of t2-x2 kept no label maps of {others[0]}, .*dvc repro evaluate@t2-x2"):
        pictures.cases(other, "t2-x2")


def test_best_and_worst_are_written_in_order(study, tmp_path, capsys):
    stage.main("t2-x2", worst=2, best=1, out=tmp_path)
    ranked = measure.ranked(study, "t2-x2", "os16")
    expected = [f"best-1-{ranked[-1][0]}.png", f"worst-1-{ranked[0][0]}.png", f"worst-2-{ranked[1][0]}.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(expected)
    assert [line.split(": ")[0].rpartition("/")[2] for line in capsys.readouterr().out.splitlines()] == expected
    pictures_written = [Image.open(path) for path in tmp_path.iterdir()]
    assert all(picture.width >= 4 * stage.LEAST and says_what_it_is_not(picture) for picture in pictures_written)


def test_against_another_run_best_is_where_it_gains_most(study, tmp_path, capsys):
    stage.main("t2-x2", against="t3-os16-nodec", best=6, out=tmp_path)
    gains = [float(line.rpartition("(")[2].rstrip(")")) for line in capsys.readouterr().out.splitlines()]
    assert gains == sorted(gains, reverse=True) and len(gains) == 6
    assert Image.open(next(tmp_path.iterdir())).width >= 5 * stage.LEAST


def test_an_image_that_gets_worse_is_not_called_improved(study, monkeypatch):
    monkeypatch.setattr(pictures, "gains", lambda *arguments: [("2012_010001", 50.0, 60.0), ("2012_010002", 50.0, 50.0), ("2012_010003", 50.0, 40.0)])
    monkeypatch.setattr(pictures, "_kept", lambda *arguments: {})
    monkeypatch.setattr(pictures, "drawn", lambda study, run, maps, chosen, side: [name for name, _ in chosen])
    assert pictures.improved(study, "t2-x2", "t3-os16-nodec") == ["2012_010001"]


def test_images_by_name_and_three_of_each_by_default(study, tmp_path):
    stage.main("t7-dec", image=["2026_000003"], out=tmp_path / "one")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["2026_000003.png"]
    stage.main("t7-dec", out=tmp_path / "six")
    assert len(list((tmp_path / "six").iterdir())) == 6


def test_a_name_that_the_font_cannot_write_is_spelt_out_in_one_line():
    """Line breaks were drawn over the line below, and two Chinese names as the same boxes."""
    label = np.zeros((9, 300), np.uint8)
    case = panels.Case("", "", panels.draw(np.zeros((9, 300, 3), np.uint8), label, {"guess": label}, bytes(768)))
    def drawn(name):
        return panels.strip([replace(case, image=name)])
    for name, spelt in (("a\nb\tc", r"a\nb\tc"), ("\u6f22\u5b57", r"\u6f22\u5b57"), ("\U0001f600 \xc4", r"\U0001f600 \xc4")):
        assert drawn(name) == drawn(spelt) != drawn(name[::-1]), name
    assert panels._line(plain := "2007_000063 [a-b] (50 %): mIOU +1.2", ImageFont.load_default(13)) == plain


def test_only_long_names_are_cut_and_then_told_apart():
    for name in ("2012_010021", "é" * 90):
        assert entries.file_name("worst-2", name) == f"worst-2-{name}.png" and entries.file_name("", f"a/{name}") == f"a_{name}.png"
    long = ["x" * 246, "x" * 245 + "y", "日" * 82, "a/" + "x" * 244, "a_" + "x" * 244]
    found = {entries.file_name("worst-2", name) for name in long}
    assert len(found) == len(long) and max(len(name.encode()) for name in found) <= 200
    assert all(name.startswith("worst-2-") and name.endswith(".png") for name in found)


def test_an_image_with_a_long_name_is_drawn_here_and_in_mlflow(study, tmp_path, monkeypatch):
    few = study.model_copy(update={"runs": {"t2-x2": study.runs["t2-x2"]}, "evaluate": {"t2-x2": ("os16",)}})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies, "load", lambda: few)
    monkeypatch.setattr(fake_study, "Example", lambda name, *rest, **more: shards.Example(name.rjust(246, "x"), *rest, **more))
    fake_study.write(few, images=4, size=49)
    stage.main("t2-x2", worst=2, out=Path("out"))
    row = next(row for row in rows(few)["table2"] if row.key == "t2-x2/os16")
    mirrored = set(entries.of_row(few, row, nested=False).pictures)
    assert {path.name for path in Path("out").iterdir()} < mirrored and len(mirrored) == 4 and max(map(len, mirrored)) <= 200


def test_another_strategy_is_predicted_for_the_chosen_images_only(study, tmp_path, monkeypatch):
    asked = []
    def predicted(study, run, strategy, shard, images):
        asked.append((run, strategy, images))
        return {name: np.zeros_like(shard[shard.ids.index(name)].label) for name in images}
    monkeypatch.setattr(stage, "_predicted", predicted)
    stage.main("t2-x2", strategy="os8-ms", worst=1, out=tmp_path)
    assert asked == [("t2-x2", "os8-ms", [measure.ranked(study, "t2-x2", "os8-ms")[0][0]])]


@pytest.mark.parametrize("arguments, message", [
    ({"run": "t2-x3"}, "t2-x3 has not been evaluated: dvc repro evaluate@t2-x3"),
    ({"run": "own-mobilenet"}, "own-mobilenet has not been evaluated: scale miniature has no mobilenetv2_100: see scales."),
    ({"run": "t2-128"}, "t2-128 has not been evaluated: no images"),
    ({"run": "t2-x9"}, "did you mean t2-x"),
    ({"run": "t2-x2", "strategy": "os32"}, "evaluate.t2-x2 in params.yaml lacks 'os32'"),
    ({"run": "t2-x2", "image": ["nope"]}, "t2-x2 was not evaluated on nope"),
    ({"run": "t2-x2", "against": "t7-dec"}, "t2-x2 and t7-dec see different images: voc and cityscapes"),
    ({"run": "t2-x2", "best": 0}, "no image of t2-x2 is chosen: ask for --best or --worst above 0"),
])
def test_mistakes_are_named(study, arguments, message):
    with pytest.raises(StudyError, match=message.replace("(", r"\(")):
        stage.main(**arguments)
