"""The test servers' scores in params.yaml: each in its table, a wrong one refused, and the lines in the documentation."""
import re

import pytest
import yaml

from pipeline import schema, study as studies
from pipeline.reporting import tables
from pipeline.study import StudyError


def settings(tmp_path, scores) -> studies.Study:
    raw = yaml.safe_load((studies.ROOT / "params.yaml").read_text()) | {"test_scores": scores}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    return studies.load(path)


def test_a_score_appears_in_its_table_at_its_scale_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    score = {"voc": {"run": "t5-coco", "strategy": "os8-ms-flip", "miou": 86.5}}
    for scale, city, expected in (("miniature", 80.25, True), ("paper", 80.25, False)):
        scores = {scale: score | {"cityscapes": {"run": "t7-x71", "strategy": "os16", "miou": city}}}
        study = settings(tmp_path, scores)
        built = tables.build(study, {})
        for table, row, run, miou in (("table6", 11, "t5-coco", 86.5), ("table7b", 4, "t7-x71", 80.25)):
            lines = built[table].to_pylist()
            assert lines[row]["miou_paper"] == (87.8 if table == "table6" else 82.1) and "test_server" not in lines[row]
            found = lines[row]["status"], lines[row]["run"], lines[row]["miou"]
            assert found == ("measured", run, miou) if expected else found[0].startswith("test server") and found[2] is None
            note = f"{run} was trained on the split {'train' if run == 't7-x71' else 'train_aug'}"  # not the paper's coarse labels
            assert lines[row]["note"] == (note if expected else None)
            assert all(line["miou"] is None for line in lines[:row] + lines[row + 1:])
        tmp_path.joinpath("params.yaml").unlink()
        studies.load.cache_clear()


def test_the_lines_in_the_documentation_are_valid(tmp_path):
    """docs/data.md's YAML: sources of data sets, and a score."""
    blocks = re.findall(r"```yaml\n(.*?)```", (studies.ROOT / "docs/data.md").read_text(), re.DOTALL)
    coco, city, scores = map(yaml.safe_load, blocks)
    archives = {name: schema.Source.model_validate(block[name]["source"]).archives for block, name in ((coco, "coco"), (city, "cityscapes"))}
    assert [len(each) for each in archives.values()] == [3, 2]
    assert all(archive.md5 and archive.size for archive in archives["coco"])
    with pytest.raises(StudyError, match="voc.miou"):  # as it is pasted: the server's number is the reader's to write
        settings(tmp_path, scores["test_scores"])
    scores["test_scores"]["paper"]["voc"]["miou"] = 86.5
    assert settings(tmp_path, scores["test_scores"]).test_scores["paper"]["voc"].miou == 86.5


@pytest.mark.parametrize("scores, said", [
    ({"papr": {}}, "test_scores.papr: there is no scale 'papr' .did you mean paper"),
    ({"paper": {"voc": {"run": "t7-x71", "strategy": "os16", "miou": 80}}}, "there is no run on voc 't7-x71'"),
    ({"paper": {"voc": {"run": "t5-coco", "strategy": "os9", "miou": 80}}}, "there is no strategy 'os9'"),
    ({"paper": {"voc": {"run": "t5-coco", "strategy": "os8", "miou": 870}}}, "less than or equal to 100"),
    ({"paper": {"imagenet": {}}}, "test_scores.paper.imagenet"),
])
def test_a_wrong_score_is_refused(tmp_path, scores, said):
    with pytest.raises(StudyError, match=said):
        settings(tmp_path, scores)
