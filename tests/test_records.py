"""What a result is made of, and where it was made."""
import time

from pipeline import records


def test_a_digest_is_of_settings_files_and_code(tmp_path):
    (tmp_path / "code").mkdir()
    file, module = tmp_path / "file", tmp_path / "code/module.py"
    file.write_text("a")
    module.write_text("a = 1")
    digests = [records.digest({"rate": 1}, file, module.parent)]
    assert records.digest({"rate": 1}, file, module.parent) == digests[0]
    digests.append(records.digest({"rate": 2}, file, module.parent))
    file.write_text("b")
    digests.append(records.digest({"rate": 1}, file, module.parent))
    module.write_text("a = 2")
    digests.append(records.digest({"rate": 1}, file, module.parent))
    (tmp_path / "code/other.py").write_text("")
    digests.append(records.digest({"rate": 1}, file, module.parent))
    assert len(set(digests)) == 5


def test_without_git_there_is_no_commit_and_no_error(monkeypatch, tmp_path):
    assert records.provenance(time.time())["commit"]
    monkeypatch.setenv("PATH", str(tmp_path))
    found = records.provenance(time.time())
    assert found["commit"] is None and found["dirty"] is None and found["python"]
