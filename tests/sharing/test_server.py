"""MLflow on a server with a real PostgreSQL: the same tables as from the local store, however many write at once, and a password
that is seen nowhere."""
import shutil

import psutil
import pytest

from pipeline import study as studies
from pipeline.paper.rows import TITLES
from pipeline.tracking import mirror, store
from tests.processes import free_port
from tests.reporting import fake_study
from tests.sharing import servers

PASSWORD = "pa@ss/w0rd-of-the-lab"


@pytest.fixture(scope="module")
def study():
    return studies.load()


@pytest.fixture(scope="module")
def home(tmp_path_factory, study):
    """A folder with an unfinished study; beside it the same, compiled into the local store, and with a server that is down."""
    root = tmp_path_factory.mktemp("studies")
    (root / "home").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root / "home")
        fake_study.write(study, images=3, size=49, missing=[run for run in study.runs if run != "t3-os32-dec"])
    down = f"http://lab:{PASSWORD.replace('@', '%40').replace('/', '%2F')}@127.0.0.1:{free_port()}"
    addresses = {shutil.copytree(root / "home", root / name): address for name, address in (("local", ""), ("down", down))}
    for folder, (code, printed) in servers.compile_at_once(addresses).items():
        assert code == (folder.name == "down"), printed
    return root / "home"


@pytest.fixture
def database():
    with servers.postgresql(PASSWORD) as address:
        yield address


def tables(folder):
    return {path.name: path.read_bytes() for path in (folder / "reports/tables").iterdir()}


@pytest.mark.parametrize("writers", [3, pytest.param(8, marks=pytest.mark.drills)])
def test_who_write_at_once_leave_one_run_a_row_and_the_same_tables(home, study, database, tmp_path, monkeypatch, writers):
    folders = [shutil.copytree(home, tmp_path / f"colleague-{number}") for number in range(writers)]
    with servers.mlflow(database, tmp_path / "server") as address:
        ended = servers.compile_at_once(dict.fromkeys(folders, address))
        printed = "".join(each for _, each in ended.values())
        assert {code for code, _ in ended.values()} == {0}, printed[-3000:]
        assert "View run" not in printed and not (tmp_path / "server/log").read_text().count(PASSWORD)
        expected = tables(home.parent / "local")
        assert len(expected) > 15 and all(tables(folder) == expected for folder in folders)
        lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]

        monkeypatch.chdir(folders[0])
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        client = store.connect()
        shown = {(table, key): there for table in TITLES for key, there in store.existing(client, study, table).items()}
        assert len(shown) == 10 and all(len(there) == 1 for there in shown.values())
        parent, = shown["table3", "t3-os32-dec"]
        assert {there[0].data.tags["mlflow.parentRunId"] for (table, key), there in shown.items()
                if table == "table3" and "/" in key} == {parent.info.run_id}
        assert len(client.list_artifacts(shown["table3", "t3-os32-dec/os32"][0].info.run_id, "pictures")) >= 2
        assert mirror.mirror(study).changes == 0
    # and without MLflow's server between: the database itself as the address
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    mirrored = mirror.mirror(study)
    assert mirrored.changes == 0 and mirror.read_back(study, mirrored.runs)["table3", "t3-os32-dec/os8"]["metrics"]["miou"] > 0

    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 60
    for secret in (PASSWORD, "w0rd-of-the-lab"):
        assert secret not in printed and not any(secret in line for line in lines)
        assert not [path for path in written if secret.encode() in path.read_bytes()]


def test_a_server_that_is_down_is_one_line_without_the_password(home):
    printed = (home.parent / "down/printed").read_text()
    assert "check MLFLOW_TRACKING_URI" in printed and "lab:***@127.0.0.1" in printed
    assert "w0rd-of-the-lab" not in printed and "Traceback" not in printed
