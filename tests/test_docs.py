"""Links between the documents, and to pictures, lead to files and headings that are there."""
import re

import pytest

from pipeline.study import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def prose(page):
    return re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)


def anchors(page):
    """As GitHub makes them of headings: lower case, no punctuation, hyphens for spaces."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"(?m)^#+ (.*)$", prose(page))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = [link for link in re.findall(r'(?:\]\(|src=")([^)"]+)', prose(page)) if not link.startswith("http")]
    found = [((page.parent / path).resolve() if path else page, anchor) for path, _, anchor in (link.partition("#") for link in links)]
    assert not [(path, anchor) for path, anchor in found if not path.exists() or anchor and anchor not in anchors(path)]
