"""The documentation builds into a site that is whole, and loads nothing from elsewhere."""

import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = {page.stem for page in (ROOT / "docs").glob("*.md")}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of the site, but the one for addresses that do not exist."""
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {page: page.read_text() for page in folder.rglob("*.html") if page.name != "404.html"}
    assert {page.stem for page in pages} >= PAGES
    return pages


class Loaded(HTMLParser):
    """What a page loads, which is not what it links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.found += [given[name] for name in ("src", "srcset", "poster") if given.get(name)]
        if tag == "link" and given.get("rel") not in ("next", "prev"):
            self.found.append(given["href"])


def loaded_by(text: str) -> list[str]:
    parser = Loaded()
    parser.feed(text)
    return parser.found


def test_loads_are_found():
    text = '<script src="a.js"></script><img src="b.png"><a href="c"><link rel=stylesheet href=d>'
    assert loaded_by(text) == ["a.js", "b.png", "d"]


@pytest.mark.multiprocess
def test_nothing_comes_from_elsewhere(site):
    """Nor is anything missing: the site is read from files, without a network."""
    for page, text in site.items():
        loaded = loaded_by(text)
        assert len(loaded) > 3
        for each in loaded:
            if not each.startswith("data:"):
                assert not re.match(r"[a-z]+:|//", each), (page, each)
                assert (page.parent / re.split("[?#]", each)[0]).is_file(), (page, each)
    folder = next(page for page in site if page.name == "index.html").parent
    for style in folder.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text()), style


@pytest.mark.multiprocess
def test_links_lead_somewhere(site):
    """Those to files outside of docs/ too, which join the site."""
    links = [
        (page, link)
        for page, text in site.items()
        for link in re.findall(r'<a [^>]*href="([^"#]+)', text)
        if not re.match(r"[a-z]+:", link)
    ]
    assert len(links) > 500
    assert [(page, link) for page, link in links if not (page.parent / link).exists()] == []
    linked = {link.rpartition("/")[2] for _, link in links}
    assert linked >= {"vae_with_lpips.py.html", "results.json"}


@pytest.mark.multiprocess
def test_the_reference_is_there(site):
    """Signatures, arguments and examples, as code and lists."""
    (api,) = (text for page, text in site.items() if page.name == "api.html")
    assert 'id="perceptual_jax.make"' in api
    assert 'id="perceptual_jax.distances.mmd.mmd"' in api
    assert "Example:" not in api
    assert api.count("Parameters:") > 50


def chromium():
    """The browser that the tests of reports use."""
    file = ROOT / "tests" / "experiments" / "browser.py"
    spec = importlib.util.spec_from_file_location("browser", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.chromium


@pytest.mark.browser
@pytest.mark.parametrize(("word", "pages"), [("weighted_sum", {"training", "api"}), ("qqq", set())])
def test_it_is_searched_without_a_server(site, word, pages, tmp_path):
    """Browsers let a page that is a file start no worker: a frame does what it would."""
    folder = next(page for page in site if page.name == "index.html").parent
    asks = folder / f"search-{word}.html"
    asks.write_text(f'<meta http-equiv="refresh" content="0; url=index.html?q={word}">')
    text = chromium()(asks, tmp_path / "profile", "--virtual-time-budget=10000", "--dump-dom")
    (said,) = re.findall(r'md-search-result__meta">([^<]*)', text)
    found = set(re.findall(r'/(\w+)\.html[^"]*" class="md-search-result__link"', text))
    assert ("No matching" in said) == (not pages), said
    assert pages <= found
