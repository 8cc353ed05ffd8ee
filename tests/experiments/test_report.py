"""Reports: self-contained, escaped, and sound in a real browser."""

import re
from urllib.parse import quote

import numpy as np
import pytest
from in_browser import as_wide_as_the_window, clean, unnamed

from experiments.common.report import Report
from tests.experiments.browser import chromium

HOSTILE = "\"><script>document.title='owned'</script>'&"


def hostile_report(path):
    report = Report(HOSTILE, HOSTILE)
    report.heading(HOSTILE)
    report.text(HOSTILE)
    report.pictures({HOSTILE: [(np.zeros((4, 4, 3)), HOSTILE)]})
    report.table([HOSTILE], [[HOSTILE]])
    report.code(HOSTILE)
    report.link(HOSTILE, HOSTILE)
    report.write(path)
    return path.read_text()


def test_all_text_is_escaped(tmp_path):
    page = hostile_report(tmp_path / "report.html")
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 10


@pytest.mark.parametrize("target", ["javascript:document.title=666", " javascript:1", "//x", "a#b"])
def test_a_link_is_to_a_file_beside_the_page(tmp_path, target):
    report = Report("title", "introduction")
    report.link(target, "text")
    report.write(tmp_path / "report.html")
    (link,) = re.findall(r'href="([^"]*)"', (tmp_path / "report.html").read_text())
    assert link == f"./{quote(target)}"
    assert ":" not in link


@pytest.mark.parametrize("sections", [3, 4])
def test_a_page_of_many_sections_begins_with_links_to_them(tmp_path, sections):
    report = Report("title", "introduction")
    for place in range(sections):
        report.heading(f"<{place}>")
    report.write(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    places = re.findall(r'<h2 id="([^"]*)">&lt;(\d)&gt;</h2>', page)
    links = re.findall(r'<a href="#([^"]*)">&lt;(\d)&gt;</a>', page)
    assert len(places) == len(set(places)) == sections
    assert links == (places if sections == 4 else [])
    assert sections < 4 or page.index("introduction") < page.index("<nav") < page.index("<h2")


def test_a_page_needs_nothing_but_itself(tmp_path):
    page = hostile_report(tmp_path / "report.html")
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', page))
    assert not re.search(r"https?://", page)


@pytest.mark.browser
def test_a_browser_runs_nothing_hostile(tmp_path):
    hostile_report(tmp_path / "report.html")
    page = chromium(tmp_path / "report.html", tmp_path / "profile", "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", page).group(1)
    assert "script" in title  # shown as text
    assert title != "owned"
    assert "<h2 " in page


@pytest.mark.browser
@pytest.mark.slow
def test_the_demo_s_report_opens_with_its_pictures(cli, tmp_path):
    """The demo at a small size, rendered: its grid is there, in colour."""
    import perceptual_jax as pj

    outcome = cli(
        *("demo", "--size", "64", "--steps", "5", "--style-size", "64", "--style-steps", "2"),
        *("--distances", "l2", "lpips-alex", "--name", "d"),
    )
    assert outcome.code == 0, outcome.err
    page = tmp_path / "runs" / "demo" / "d" / "report.html"
    picture = tmp_path / "page.png"
    chromium(page, tmp_path / "profile", f"--screenshot={picture}", "--window-size=1200,1000")
    shown = pj.images.read(picture).astype(float)
    colourful = np.abs(shown[..., 0] - shown[..., 2]) > 40
    assert colourful.mean() > 0.05


@pytest.fixture
def wide_report(tmp_path):
    page = Report("A title" + "withoutaspace" * 20, "An introduction.")
    image = np.full((64, 64, 3), 0.5)
    page.pictures({f"row {n}": [(image, f"column {i}") for i in range(8)] for n in range(2)})
    page.table([f"header {n}" for n in range(12)], [["value"] * 12])
    page.code("distances = " + "('l2', 'ssim')" * 40)
    page.write(tmp_path / "report.html")
    return tmp_path / "report.html"


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_a_report_is_light_or_dark(browse, wide_report, dark):
    driver = browse(wide_report, dark=dark)
    look = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
    ground, ink = (
        sum(int(level) for level in colour[4:-1].split(","))
        for colour in driver.execute_script(look)
    )
    assert (ground < ink) == dark


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 360])
def test_a_phone_shows_a_report_without_scrolling_sideways(browse, wide_report, width):
    driver = browse(wide_report, width=width)
    assert as_wide_as_the_window(driver)
    clean(driver)


@pytest.mark.browser
def test_a_report_has_a_language_a_title_a_landmark_and_names(browse, wide_report):
    driver = browse(wide_report)
    nameless, found = unnamed(driver)
    assert nameless == []
    assert ("image", "row 1: column 7") in found
    assert "main" in {role for role, _ in found}
    assert driver.execute_script("return document.documentElement.lang") == "en"
    assert driver.title.startswith("A title")
