"""Made-up studies, one of them with its report, each made once for all tests that only look at it."""
import pytest
import yaml

from pipeline import records, study as studies
from pipeline.paper import claims
from pipeline.reporting import ledger
from tests import shipped
from tests.reporting import fake_study, measured

WITHOUT = ("t1-c16", "t3-os32-dec")


def with_own() -> studies.Study:
    """The study with the run of one's own that docs/extend.md adds, and a further strategy of a run of the paper."""
    study = shipped.study()
    mine = study.runs["t2-x2"].model_copy(update={"low_level_channels": 24})
    more = {"mine": ("os16", "os16-ms"), "t1-c48": ("os16", "os8")}
    return study.model_copy(update={"runs": study.runs | {"mine": mine}, "evaluate": study.evaluate | more})


OWN = claims.Claim(sentence="24 channels are no worse than 48.", where="my thesis | chapter 2", measure="miou", a="mine/os16", b=("t1-c48/os16",), at_least=-0.5)


@pytest.fixture(scope="session", autouse=True)
def the_papers_claims(tmp_path_factory):
    """No others, whatever somebody has added."""
    (path := tmp_path_factory.mktemp("claims") / "claims.yaml").write_text(yaml.safe_dump(shipped.claims(), sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "CLAIMS", path)
        claims.claims.cache_clear()
        yield
    claims.claims.cache_clear()


@pytest.fixture(scope="session")
def reported(tmp_path_factory):
    """Its folder: two runs missing, two that took longer, a run and a claim of one's own, tables and report. Not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder := tmp_path_factory.mktemp("reported"))
        patch.setattr(ledger, "claims", lambda: claims.claims() | {"mine": OWN})
        fake_study.write(study := with_own(), images=6, size=49, missing=("t1-c16", "t7-x71"))
        for run, seconds in (("t1-c8", 3720.0), ("t1-c32", 378.0)):
            record = records.read(study.artifacts("runs", run))
            records.write(study.artifacts("runs", run), **record | {"provenance": record["provenance"] | {"seconds": seconds}})
        measured.report(study)
    return folder


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture
def study(home, monkeypatch):
    monkeypatch.chdir(home)
    study = shipped.study()
    if not (home / "artifacts").exists():
        fake_study.write(study, images=5, size=49, missing=WITHOUT)
    return study
