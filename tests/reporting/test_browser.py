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


def test_without_scripts_all_tables_are_there(chromium, reported):
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(reported / "reports/index.html", 1280, False)
        shown = chromium.evaluate("[...document.querySelectorAll('table')].map((one) => [one.closest('section').id, one.rows.length, "
                                  "!!one.closest('details'), [...one.rows].every((row) => row.getBoundingClientRect().height > 0)])")
        assert {"table1", "table2", "table3", "table4", "table5", "table6", "table7a", "table7b", "own", "claims", "runs", "data"} <= {one for one, *_ in shown}
        assert all(rows > 1 and (folded or seen) for _, rows, folded, seen in shown) and not all(folded for _, _, folded, _ in shown)
        assert chromium.evaluate("document.querySelectorAll('th button').length") == 0, "the scripts did run"
        chromium.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        assert chromium.evaluate("[...document.querySelectorAll('table tr')].every((row) => row.getBoundingClientRect().height > 0)")
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("name", PAGES[:2])
def test_on_paper_all_is_there_but_what_one_presses(chromium, reported, name):
    chromium.open(reported / "reports" / name, 1280, False)
    look = ("Object.fromEntries(['nav', '.skip', 'table.sortable th button'].map((one) => [one, getComputedStyle(document.querySelector(one)).display]))")
    assert chromium.evaluate(look)["nav"] == "block"
    chromium.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert chromium.evaluate(look) == {"nav": "none", ".skip": "none", "table.sortable th button": "contents"}
        assert chromium.evaluate("getComputedStyle(document.body).fontSize") == "12.6667px"  # 9.5 pt
        assert set(chromium.evaluate("[...document.querySelectorAll('.scroll')].map((one) => getComputedStyle(one).overflow)")) == {"visible"}
        assert chromium.evaluate("getComputedStyle(document.querySelector('tbody tr')).breakInside") == "avoid"
        folded = "[...document.querySelectorAll('details:not([open]) table tr')].every((row) => row.checkVisibility({contentVisibilityAuto: true}))"
        assert chromium.evaluate(folded), "nobody can unfold what is printed"
        assert chromium.evaluate("getComputedStyle(document.querySelector('.banner')).display") == "block"
    finally:
        chromium.call("Emulation.setEmulatedMedia", media="")


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


@pytest.mark.parametrize("cells", ["#table3 td.ours", "#table3 td:nth-child(9)", "#table4 td:nth-child(3)", "#table5 td.ours", "#runs td.ours",
                                   "#claims td.ours", "#claims td[data-head=Paper]", "#own td.ours"])
def test_decimals_stand_below_each_other(chromium, reported, cells):
    chromium.open(reported / "reports/index.html", 1280, False)
    places = chromium.evaluate(f"[...document.querySelectorAll('{cells}')]" + """.map((cell) => {
        const text = [...cell.childNodes].find((node) => node.nodeType === 3 && node.data.includes('.'));
        if (!text) return null;
        const point = document.createRange();
        point.setStart(text, text.data.indexOf('.'));
        point.setEnd(text, text.data.indexOf('.') + 1);
        return point.getBoundingClientRect().left;
    }).filter((place) => place !== null)""")
    assert len(places) > 1 and max(places) - min(places) < 1


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
