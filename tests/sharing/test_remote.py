"""A DVC remote on S3: what one person computed, another one's checkout does not compute again. Real DVC, a local S3 server."""
import json

import pytest

from tests.engines.checkout import Checkout, ran
from tests.sharing import servers

SECRET = "s3cr3t-of-the-lab"
KEYS = {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "eu-west-1"}


@pytest.fixture
def ours(tmp_path):
    """A checkout whose default remote is a bucket, set up as docs/sharing.md says."""
    with servers.s3("bucket") as address:
        checkout = Checkout(tmp_path / "ours")
        checkout.run("dvc", "remote", "add", "--default", "lab", "s3://bucket/deeplab")
        checkout.run("dvc", "remote", "modify", "lab", "endpointurl", address)
        yield checkout


def test_a_colleague_prepares_nothing_that_was_prepared(ours, tmp_path):
    assert ran(ours.run("dvc", "repro", "prepare@voc")) == {"download@voc", "prepare@voc"}
    ours.commit()
    printed = ours.run("dvc", "push", "--run-cache", **KEYS)
    theirs = ours.clone(tmp_path / "theirs")
    printed += theirs.run("dvc", "pull", "--run-cache", "--allow-missing", **KEYS)
    last = theirs.run("dvc", "repro", "prepare@voc")
    assert not ran(last) and "up to date" in last and "pushed" in printed
    same_shard(ours, theirs)

    # and where nobody committed dvc.lock: from the run cache
    other = ours.clone(tmp_path / "other")
    (other.root / "dvc.lock").unlink()
    last = other.run("dvc", "repro", "--pull", "prepare@voc", **KEYS)
    assert not ran(last) and last.count("is cached - skipping run") == 2
    same_shard(ours, other)
    nowhere_but_in_the_environment([ours, theirs, other], printed + last)


def same_shard(*checkouts):
    shard = "artifacts/tiny/shards/voc/val.arrow"
    assert len({(checkout.root / shard).read_bytes() for checkout in checkouts}) == 1


@pytest.mark.drills
def test_a_colleague_trains_nothing_that_was_trained(ours, tmp_path):
    """The whole tiny study by the README's command, on both sides."""
    ours.make("study")
    ours.commit()
    ours.run("dvc", "push", "--run-cache", **KEYS)
    theirs = ours.clone(tmp_path / "theirs")
    theirs.run("dvc", "pull", "--run-cache", "--allow-missing", **KEYS)
    printed = theirs.make("study")
    assert "start " not in printed and theirs.tables() == ours.tables()
    record = "artifacts/tiny/runs/t2-x2/record.json"
    assert json.loads((theirs.root / record).read_text()) == json.loads((ours.root / record).read_text())
    theirs.edit("params.yaml", r"low_level_channels: 64", "low_level_channels: 56")
    assert ran(theirs.run("dvc", "repro", "evaluate@t1-c64")) == {"train@t1-c64", "evaluate@t1-c64"}
    theirs.run("dvc", "push", "--run-cache", **KEYS)
    ours.edit("params.yaml", r"low_level_channels: 64", "low_level_channels: 56")  # the same idea, without their dvc.lock
    assert not ran(ours.run("dvc", "repro", "--pull", "evaluate@t1-c64", **KEYS))


def nowhere_but_in_the_environment(checkouts, printed):
    assert SECRET not in printed
    for checkout in checkouts:
        files = [path for path in checkout.root.rglob("*") if path.is_file()]
        assert len(files) > 100 and not [path for path in files if SECRET.encode() in path.read_bytes()
                                         and path.parts[-2:] != ("sharing", "test_remote.py")]
