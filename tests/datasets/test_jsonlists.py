"""Elements of large JSON files against json.load, whatever the spacing and wherever a read ends."""
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings, strategies as st

from pipeline.datasets import coco, jsonlists
from pipeline.study import ROOT, StudyError
from tests.processes import proc

values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8)


@settings(max_examples=80)
@given(content=st.dictionaries(st.text(max_size=6), st.lists(values, max_size=5) | values, max_size=4), chunk=st.integers(1, 40),
       indent=st.sampled_from([None, 1]), ascii=st.booleans())
def test_elements_are_those_of_the_lists(tmp_path_factory, content, chunk, indent, ascii):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=ascii), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonlists, "CHUNK", chunk)
        patch.setattr(jsonlists._Reader.more, "__defaults__", (chunk,))
        found = list(jsonlists.elements(path))
    expected = [(key, each) for key, value in content.items() if isinstance(value, list) for each in value]
    assert [(key, element) for key, element, _ in found] == expected
    assert [jsonlists.element(path, span) for _, _, span in found] == [element for _, element in expected]


@pytest.mark.parametrize("content", ["", "[1]", '{"a"', '{"a": [1', '{"a": [1}', '{"a": [1 2]}', '{"a": [1], ', '{"a": [tru]}', '{"a" [1]}',
                                     '{"a": [1] "b": 2}'])
def test_what_is_no_json_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError):
        list(jsonlists.elements(tmp_path / "a.json"))


def test_garbage_in_a_large_file_is_found_without_reading_it_all(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonlists, "LONGEST", 4 << 20)
    (tmp_path / "a.json").write_bytes(b'{"a": [1, ?' + b"x" * (40 << 20))
    with pytest.raises(ValueError, match="no JSON from byte 10 on"):
        list(jsonlists.elements(tmp_path / "a.json"))


MEMORY = """
import sys
from pathlib import Path
from pipeline.datasets import coco
from tests.processes import peak
before = peak()
items = coco.splits(Path(sys.argv[1]))["train"]
print(len(items), peak() - before)
"""


def write_instances(path, megabytes):
    """About that much of annotations, as COCO's instances file has them: one polygon each, on 640x480 images."""
    outline = [round(1.37 * number % 480, 2) for number in range(600)]
    annotation = {"segmentation": [outline], "area": 1500.5, "iscrowd": 0, "bbox": [1.0, 2.0, 3.0, 4.0], "category_id": 17}
    count = megabytes * 1_000_000 // (len(json.dumps(annotation)) + 40)
    path.parent.mkdir(parents=True)
    with path.open("w") as file:
        images = [{"id": number, "file_name": f"{number:012d}.jpg", "height": 480, "width": 640} for number in range(count // 7 + 1)]
        file.write('{"images": ' + json.dumps(images) + ', "annotations": [')
        for number in range(count):
            file.write((", " if number else "") + json.dumps(annotation | {"id": number, "image_id": number // 7}))
        categories = [{"id": number, "name": name} for name, number in coco.CATEGORY_IDS.items()]
        file.write('], "categories": ' + json.dumps(categories) + "}")
    return count // 7 + 1


@proc
@pytest.mark.parametrize("megabytes", [10, pytest.param(400, marks=pytest.mark.drills)])
def test_memory_does_not_grow_with_the_outlines(tmp_path, megabytes):
    """As objects they would take ten times the file."""
    images = write_instances(tmp_path / "annotations/instances_train2017.json", megabytes)
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True)
    count, grown = done.stdout.split()
    assert int(count) == images and float(grown) < 25 + megabytes / 10


def test_another_file_is_another_source(tmp_path):
    path = tmp_path / "annotations/instances_train2017.json"
    write_instances(path, 1)
    before = coco.splits(tmp_path)["train"][0]
    content = path.read_text()
    path.write_text(content.replace("1.37", "9.99", 1))
    after = coco.splits(tmp_path)["train"][0]
    assert before.label[2:] == after.label[2:] and before.label != after.label  # prepared parts are named by what is in the items
    path.write_text(content[:500_000])
    with pytest.raises(StudyError, match="is not a COCO instances file: ValueError: the file is cut short"):
        coco.splits(tmp_path)
