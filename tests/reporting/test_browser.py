"""The report in a real browser, at the width of a phone and of a desk, light and dark."""
import itertools
from urllib.parse import unquote, urldefrag, urlparse

import pytest

from tests.reporting import browser

AXE = browser.axe()
PAGES = ["index.html", "runs/t2-x2.html", "runs/t1-c16.html"]
pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no chromium here: the pages are not opened")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    one = browser.Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_it_opens_without_complaint_and_without_a_request(chromium, reported, name, width, dark):
    path = reported / "reports" / name
    chromium.open(path, width, dark)
    assert chromium.evaluate("[innerWidth, document.documentElement.scrollWidth <= innerWidth]") == [width, True]
    colour = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == ("rgb(23, 23, 26)" if dark else "rgb(255, 255, 255)")
    broken = chromium.evaluate("[...document.images].filter((one) => !one.complete || !one.naturalWidth).length")
    assert broken == 0 and chromium.complaints == [] and chromium.requests == [path.as_uri()]


@pytest.mark.skipif(AXE is None, reason="no axe-core here (pip install axe-playwright-python): accessibility is not checked")
@pytest.mark.parametrize("name, width, dark", [
    ("index.html", 390, True), ("index.html", 1280, False), *(("runs/t2-x2.html", *how) for how in itertools.product((390, 1280), (False, True))),
    ("runs/t1-c16.html", 390, False)])
def test_axe_finds_nothing(chromium, reported, name, width, dark):
    chromium.open(reported / "reports" / name, width, dark)
    chromium.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
    chromium.evaluate(AXE + "; 1")
    found = chromium.evaluate("axe.run({resultTypes: ['violations']}).then((all) => ({passes: all.passes.length, violations: all.violations.map((one) => "
                              "[one.id, one.impact, one.nodes.slice(0, 3).map((node) => node.html.slice(0, 150))])}))")
    assert found["violations"] == [] and found["passes"] > 15


def test_tables_sort_by_keyboard(chromium, reported):
    chromium.open(reported / "reports/index.html", 1280, False)
    column = ("[...document.querySelectorAll('#table1 tbody tr')].map((row) => parseFloat(row.cells[1].textContent))")
    before = chromium.evaluate(column)
    chromium.evaluate("document.querySelector('#tables').scrollIntoView(); document.querySelector('#table1 .scroll').focus()")
    for _ in range(20):
        chromium.press("Tab", 9)
        if chromium.evaluate("document.activeElement.textContent") == "paper":
            break
    assert chromium.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"  # one sees where one is
    chromium.press("Enter", 13)
    assert chromium.evaluate(column) == sorted(before)
    assert chromium.evaluate("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"
    chromium.press(" ", 32)
    assert chromium.evaluate(column) == sorted(before, reverse=True)


def test_times_sort_by_how_long_they_are(chromium, reported):
    chromium.open(reported / "reports/index.html", 1280, False)
    column = "[...document.querySelectorAll('#runs tbody tr')].map((row) => row.cells[4]?.textContent).filter((text) => text)"
    chromium.evaluate("[...document.querySelectorAll('#runs th button')].find((one) => one.textContent === 'Training').click()")
    found = chromium.evaluate(column)
    assert set(found[:-2]) == {"22 s"} and found[-2:] == ["6 min 18 s", "1 h 02 min"]


def test_links_resolve_and_lead_back(chromium, reported):
    chromium.open(reported / "reports/index.html", 1280, False)
    links = chromium.evaluate("[...document.links].map((one) => one.href)")
    for name in {link for link in links if "/runs/" in link}:
        chromium.requests.clear()
        assert (reported / "reports/runs" / unquote(urlparse(name).path).rpartition("/")[2]).is_file()
    chromium.open(reported / "reports/runs/t2-x2.html", 390, True)
    for link in chromium.evaluate("[...document.links].map((one) => one.href)"):
        target, anchor = urldefrag(unquote(link))
        text = (reported / "reports" / target.rpartition("/reports/")[2]).read_text()
        assert not anchor or f'id="{anchor}"' in text, link
