"""Damaged files of a data set by chance: prepared or named in the error. A sample here, 1,000 cases in `make drills`."""
import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pipeline.datasets import coco, native, preparation, voc
from pipeline.datasets.shards import Shard
from pipeline.study import StudyError
from tests.datasets.damage import BASE, CASES, FILES, damaged


def sources(root: Path) -> dict[Path, object]:
    """Files of every kind that prepare reads, and what reads them: image, palette label, SBD's .mat, COCO's annotations."""
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    labels = np.asarray(Image.open(io.BytesIO(FILES[f"{BASE}/SegmentationClass/a.png"])))
    savemat(root / "a.mat", {"GTcls": {"Boundaries": np.zeros((20, 1), object), "Segmentation": labels}})
    content = {"images": [{"id": 1, "file_name": "a.jpg", "height": 30, "width": 40}],
               "annotations": [{"image_id": 1, "category_id": 17, "area": 1200, "iscrowd": 0, "segmentation": [[1, 1, 38, 1, 38, 28]]}],
               "categories": [{"id": number, "name": name} for name, number in coco.CATEGORY_IDS.items()]}
    (root / "annotations").mkdir()
    (root / "train2017").mkdir()
    (root / "train2017/a.jpg").write_bytes(FILES[f"{BASE}/JPEGImages/a.jpg"])
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))
    image = root / f"{BASE}/JPEGImages/a.jpg"
    return {image: lambda: ("voc", voc.splits(root)["train"]), root / f"{BASE}/SegmentationClass/a.png": lambda: ("voc", voc.splits(root)["train"]),
            root / f"{BASE}/ImageSets/Segmentation/train.txt": lambda: ("voc", voc.splits(root)["train"]),
            root / "a.mat": lambda: ("voc", [native.Item("a", image, root / "a.mat")]),
            root / "annotations/instances_train2017.json": lambda: ("coco", coco.splits(root)["train"])}


@pytest.mark.parametrize("cases", CASES)
def test_files_of_a_data_set(tmp_path, cases):
    """Prepared or named in the error; never another error, never a shard with a label that is no class, never half a shard."""
    (tmp_path / "native").mkdir()
    readers, refused = sources(tmp_path / "native"), 0
    for number in cases:
        chance = random.Random(number)
        path, read = chance.choice(list(readers.items()))
        whole = path.read_bytes()
        path.write_bytes(damaged(chance, whole))
        out = tmp_path / f"out/{number}.arrow"
        try:
            dataset, items = read()
            preparation.write_shard(out, tmp_path / "parts", dataset, list(voc.CLASSES), items, distances=True)
        except StudyError as error:
            refused += 1
            assert str(tmp_path / "native") in str(error) or "has no images" in str(error)
            assert not out.exists()
        else:
            for example in (Shard(out)[index] for index in range(len(Shard(out)))):
                assert np.isin(example.label, [*range(21), 255]).all() and example.image.shape[:2] == example.label.shape
        path.write_bytes(whole)
        assert not [each for each in tmp_path.rglob(".*") if each.name.endswith(".part")]
    assert refused > 0.3 * len(cases)
