"""Settings: whatever is written at one place of params.yaml is a study or said, never a traceback."""
import contextlib
import functools
import operator

import pytest
import yaml
from hypothesis import given, strategies as some

from pipeline import study as studies, written
from pipeline.study import StudyError
from tests.test_settings import TEXT


def _places(value, *path):
    found = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in found for place in ((*path, key), *_places(each, *path, key))]


@given(some.sampled_from(_places(yaml.safe_load(TEXT))), some.sampled_from([None, "", "x", 5, -1, 0.5, 1e999, True, [], [1], {}, {"a": 1}]))
def test_whatever_is_written_somewhere_is_a_study_or_said(path, value):
    raw = yaml.load(TEXT, yaml.CSafeLoader)
    functools.reduce(operator.getitem, path[:-1], raw)[path[-1]] = value
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(StudyError):
        patch.setattr(written, "read", lambda path: raw)
        studies.load.__wrapped__()
