"""The page over all runs: what it lists of sound, unfinished, broken and hostile folders."""

import base64
import io
import json
import os
import re
import struct
import zlib

import numpy as np
import pytest
from made_runs import HOSTILE, image_mean, write_run
from PIL import Image

import perceptual_jax as pj
from experiments.common.report import LOOK
from experiments.common.run_folder import RunFolder
from experiments.report.numbers import MOST_NUMBERS, averaged, headline, trimmed
from experiments.report.runs import find


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def data_of(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text)


def only(folder):
    (run,) = find(folder)
    return run


# --- The command ---------------------------------------------------------------------------


def test_it_lists_every_run_newest_first(cli, runs):
    image_mean(runs, "old", 0.5, started="2026-01-01T00:00:00+00:00")
    image_mean(runs, "new", 0.7, started="2026-01-03T00:00:00+00:00")
    write_run(runs, "glo", "stopped", report=False, started="2026-01-02T00:00:00+00:00")
    outcome = cli("report", "--out", runs)
    assert outcome.code == 0, outcome.err
    assert "3 runs, 1 unfinished" in outcome.out
    assert f"report: {runs / 'index.html'}" in outcome.out
    data = data_of((runs / "index.html").read_text())
    assert [run["name"] for run in data["runs"]] == ["new", "stopped", "old"]
    assert [run["state"] for run in data["runs"]] == ["finished", "unfinished", "finished"]
    assert data["runs"][0]["headline"]["value"] == 0.7


def test_it_refreshes_its_own_page_and_no_other(cli, runs):
    image_mean(runs, "one", 0.5)
    assert cli("report").code == 0
    image_mean(runs, "two", 0.5)
    assert cli("report").code == 0
    page = runs / "index.html"
    assert len(data_of(page.read_text())["runs"]) == 2
    page.write_text("<title>my own</title>")
    outcome = cli("report")
    assert outcome.code == 2
    assert "was not made by this command" in outcome.err
    assert page.read_text() == "<title>my own</title>"


@pytest.mark.parametrize("target", ["elsewhere.html", "missing.html"])
def test_it_writes_through_no_link(cli, runs, tmp_path, target):
    (tmp_path / "elsewhere.html").write_text("another's")
    (runs / "index.html").symlink_to(tmp_path / target)
    assert cli("report").code == 2
    assert (tmp_path / "elsewhere.html").read_text() == "another's"
    assert not (tmp_path / "missing.html").exists()


def test_a_folder_without_runs_is_a_page_that_says_so(cli, runs):
    outcome = cli("report")
    assert outcome.code == 0
    assert "0 runs" in outcome.out
    assert data_of((runs / "index.html").read_text())["runs"] == []


@pytest.mark.parametrize(
    ("out", "message"),
    [("nowhere", "there is no folder nowhere"), ("runs/image-mean", "give the folder that holds")],
)
def test_a_folder_that_is_none_of_runs_is_refused(cli, runs, out, message):
    image_mean(runs, "one", 0.5)
    outcome = cli("report", "--out", out)
    assert outcome.code == 2
    assert message in outcome.err
    assert not list(runs.rglob("index.html"))


def test_the_page_needs_nothing_but_its_folder(cli, runs, tmp_path):
    image_mean(runs, "one", 0.5)
    cli("report", "--out", runs)
    page = (runs / "index.html").read_text()
    assert not re.search(r"https?://|url\(|@import", page)
    assert str(tmp_path) not in page
    (run,) = data_of(page)["runs"]
    assert run["report"] == "image-mean/one/report.html"
    assert run["pictures"] == {"grid.png": "image-mean/one/grid.png"}


# --- A run ---------------------------------------------------------------------------------


def test_an_unfinished_run_says_how_far_it_got_and_how_to_go_on(runs):
    folder = write_run(runs, "glo", "stopped", report=False)
    (folder / "metrics.jsonl").write_text('{"step": 100}\n{"step": 200, "loss": 1}\n{"step": 30')
    run = only(runs)
    assert run.state == "unfinished"
    assert run.step == 200
    assert run.resume == f"perceptual-jax glo --out {runs} --name stopped --resume"


@pytest.mark.parametrize(
    ("command", "options", "results", "report", "state"),
    [
        ("glo", {}, None, True, "unfinished"),
        ("glo", {}, {"a": 1}, False, "unfinished"),
        ("glo", {}, {"a": 1}, True, "finished"),
        ("upscale", {"resume": None}, None, True, "finished"),
        ("upscale", {"resume": None}, None, False, "unfinished"),
    ],
)
def test_finished_is_what_has_its_results_and_its_report(
    runs, command, options, results, report, state
):
    folder = write_run(runs, command, "x", results=results, report=report)
    if options:
        config = folder / "config.json"
        config.write_text(config.read_text().replace('"resume"', '"another"'))
    run = only(runs)
    assert run.state == state
    if options:
        assert run.resume is None


def test_no_command_is_made_of_names_that_are_not_ours(runs):
    write_run(runs, "rm -rf ~; glo", "x", report=False)
    write_run(runs, "glo", "$(reboot)", report=False)
    assert [run.resume for run in find(runs)] == [None, None]


def test_options_that_say_where_a_run_is_are_not_compared(runs):
    image_mean(runs, "one", 0.5)
    assert only(runs).options == {"distances": '["l2"]', "seed": "0"}


def test_long_options_that_differ_at_their_ends_differ(runs):
    for name in "ab":
        image_mean(runs, name, 0.5, options={"data": "x" * 5000 + name})
    a, b = find(runs)
    assert a.options["data"] != b.options["data"]
    assert len(a.options["data"]) < 400


def test_pictures_of_folders_below_are_found_and_those_of_steps_come_last(runs):
    write_run(
        runs,
        "claims",
        "x",
        results={},
        pictures=("l2-step-5.png", "z.png", "blur/a.png", "checkpoints/no.png"),
    )
    assert list(only(runs).pictures) == ["z.png", "l2-step-5.png", "blur/a.png"]


def test_the_thumbnail_is_small_and_of_the_picture_that_stands_for_the_run(runs):
    folder = image_mean(runs, "one", 0.5, pictures=())
    Image.new("RGB", (600, 600), "red").save(folder / "a.png")
    grid = Image.new("RGB", (2000, 600), "red")
    grid.paste("blue", (800, 0, 2000, 600))
    grid.save(folder / "grid.png")
    assert list(only(runs).pictures) == ["grid.png", "a.png"]
    url = only(runs).thumbnail
    start = "data:image/webp;base64,"
    assert url.startswith(start)
    assert len(url) < 20_000
    picture = Image.open(io.BytesIO(base64.b64decode(url.removeprefix(start))))
    assert picture.size == (480, 240)  # twice as wide as high: the right end, all of it blue
    assert max(high for _, high in picture.getextrema()[:2]) < 20


def test_the_thumbnail_of_a_plot_is_all_of_it(runs):
    folder = write_run(runs, "two-afc", "x", results={}, pictures=())
    plot = Image.new("RGB", (2000, 700), "red")
    plot.paste("blue", (1000, 0, 2000, 700))
    plot.save(folder / "scores.png")
    data = base64.b64decode(only(runs).thumbnail.partition(",")[2])
    picture = Image.open(io.BytesIO(data))
    assert picture.size == (480, 320)  # as a card's
    left, right, below = (picture.getpixel(place) for place in ((20, 160), (460, 160), (20, 300)))
    assert left[0] > 200 > left[2]
    assert right[2] > 200 > right[0]
    assert min(below) > 240  # white


def test_a_plot_too_flat_to_be_read_stands_for_no_run(runs):
    folder = write_run(runs, "two-afc", "x", results={}, pictures=())
    Image.new("RGB", (990, 162), "white").save(folder / "scores.png")
    run = only(runs)
    assert run.thumbnail is None
    assert run.problems == ()
    assert list(run.pictures) == ["scores.png"]


def test_the_grid_of_means_stands_for_the_demo_not_one_with_a_blank_corner(runs):
    pictures = ("image-mean/means/grid.png", "style-transfer/styles/grid-vgg16.png")
    folder = write_run(runs, "demo", "x", results={}, pictures=())
    for picture in pictures:
        (folder / picture).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / picture)
    assert next(iter(only(runs).pictures)) == pictures[0]


@pytest.mark.parametrize(
    ("a", "b", "given"),
    [
        ("photos/a.png", "blur.png", ("a.png", "blur.png")),
        ("truth/", "/home/mine", ("truth", "mine")),
        ("truth/cat.png", "mine/cat.png", ("truth/cat.png", "mine/cat.png")),
        ("1/in/cat.png", "2/in/cat.png", ("1/in/cat.png", "2/in/cat.png")),
        ("a.png", "a.png", ("a.png", "a.png")),
        ("a" * 50 + "-1.png", "b.png", ("a" * 20 + "…" + "a" * 14 + "-1.png", "b.png")),
        ("x" * 5000 + "/a.png", "b\u202egnp.exe", ("a.png", "b\ufffdgnp.exe")),
        (HOSTILE, "b", (f"{HOSTILE.rpartition('/')[2]}", "b")),
        ("", "b", ()),
        (["a"], "b", ()),
        (None, None, ()),
    ],
)
def test_what_was_compared_tells_runs_apart(runs, a, b, given):
    options = {"a": a, "b": b}
    write_run(runs, "compare", "x", options=options, results={"p": {"l2": 0.5}}, pictures=())
    write_run(runs, "image-mean", "x", options=options, pictures=())
    found = {run.command: run.given for run in find(runs)}
    assert found == {"compare": given, "image-mean": ()}


# --- Folders that are broken or hostile ----------------------------------------------------


def huge_png(width, height):
    """The head of a picture that would take a hundred gigabytes."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def replaced_by_link(path, tmp_path):
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")


def replaced_by_pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


BREAKAGES = {
    "no config": (
        lambda run, _: (run / "config.json").unlink(),
        "there is no config.json",
    ),
    "cut short": (
        lambda run, _: (run / "config.json").write_text('{"config": {'),
        "config.json is not JSON, or cut short",
    ),
    "a list": (
        lambda run, _: (run / "results.json").write_text("[1]"),
        "results.json is not an object",
    ),
    "no options": (
        lambda run, _: (run / "config.json").write_text("{}"),
        "config.json names no options",
    ),
    "not text": (
        lambda run, _: (run / "results.json").write_bytes(b"\xff\xfe\x00"),
        "results.json is not JSON",
    ),
    "nested": (
        lambda run, _: (run / "results.json").write_text("[" * 100_000),
        "results.json is not JSON",
    ),
    "large": (
        lambda run, _: (run / "results.json").write_bytes(b" " * (16 * 2**20 + 1)),
        "results.json is larger than 16 MiB",
    ),
    "a pipe": (
        lambda run, _: replaced_by_pipe(run / "config.json"),
        "config.json is not a file",
    ),
    "a linked file": (
        lambda run, elsewhere: replaced_by_link(run / "results.json", elsewhere),
        "results.json is a link",
    ),
    "a linked picture": (
        lambda run, elsewhere: replaced_by_link(run / "grid.png", elsewhere),
        "grid.png is a link",
    ),
    "a linked folder": (
        lambda run, elsewhere: (run / "below").symlink_to(elsewhere),
        "below is a link",
    ),
    "a link in a circle": (
        lambda run, _: (run / "circle.png").symlink_to("circle.png"),
        "circle.png is a link",
    ),
    "a huge picture": (
        lambda run, _: (run / "grid.png").write_bytes(huge_png(200_000, 200_000)),
        "grid.png has more than 40,000,000 pixels",
    ),
    "a large picture": (
        lambda run, _: (run / "grid.png").write_bytes(huge_png(10_000, 9_000)),
        "grid.png is 10000x9000, more than 40,000,000 pixels",
    ),
    "no picture": (
        lambda run, _: (run / "grid.png").write_bytes(b"<script>"),
        "grid.png cannot be read as a picture",
    ),
    "half a picture": (
        lambda run, _: (run / "grid.png").write_bytes((run / "grid.png").read_bytes()[:60]),
        "grid.png cannot be read as a picture",
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_folder_is_listed_with_what_is_wrong(cli, runs, tmp_path, breakage):
    broken = image_mean(runs, "broken", 0.5)
    image_mean(runs, "sound", 0.5)
    damage, message = BREAKAGES[breakage]
    damage(broken, tmp_path)
    assert cli("report").code == 0
    found = {run["name"]: run for run in data_of((runs / "index.html").read_text())["runs"]}
    assert any(message in problem for problem in found["broken"]["problems"])
    assert found["sound"]["problems"] == []


def test_pipes_in_place_of_what_is_optional_are_not_waited_for(runs):
    folder = image_mean(runs, "one", 0.5)
    for name in ("metrics.jsonl", "report.html", "pipe.png"):
        replaced_by_pipe(folder / name)
    run = only(runs)
    assert run.report is None
    assert list(run.pictures) == ["grid.png"]


def test_links_to_folders_are_listed_and_not_followed(runs, tmp_path):
    image_mean(tmp_path / "elsewhere", "secret", 0.5)
    image_mean(runs, "one", 0.5)
    (runs / "image-mean" / "linked").symlink_to(tmp_path / "elsewhere" / "image-mean" / "secret")
    (runs / "glo").symlink_to(tmp_path / "elsewhere" / "image-mean")
    (runs / "circle").symlink_to("circle")
    (runs / "image-mean" / "one" / "below").symlink_to(tmp_path / "elsewhere" / "image-mean")
    found = {f"{run.command}/{run.name}": run for run in find(runs)}
    assert set(found) == {"image-mean/one", "image-mean/linked", "glo/glo"}
    for name in ("image-mean/linked", "glo/glo"):
        assert "not followed" in found[name].problems[0]
        assert found[name].pictures == {}
    assert list(found["image-mean/one"].pictures) == ["grid.png"]


def test_values_of_any_kind_do_no_harm(runs):
    folder = image_mean(runs, "one", 0.5)
    about = json.loads((folder / "config.json").read_text())
    about |= {"started": [1], "versions": 3, "weights": [], "devices": {"a": None}}
    (folder / "config.json").write_text(json.dumps(about))
    (folder / "metrics.jsonl").write_text("[3]\n")
    (folder / "results.json").write_text('{"sharpness": [{"l2": NaN}, 1e999, "x", null, true]}')
    run = only(runs)
    assert run.problems == ()
    assert run.headline is None
    assert run.step is None
    assert run.started > 0


def test_all_text_is_data(cli, runs):
    name = HOSTILE.replace("/", "")
    folder = image_mean(runs, name, 0.5, options={HOSTILE: HOSTILE}, pictures=(f"{name}.png",))
    (folder / "results.json").write_text(json.dumps({"sharpness": {HOSTILE: {HOSTILE: 1.0}}}))
    (folder / os.fsdecode(b"\xff\xfe.png")).write_bytes((folder / f"{name}.png").read_bytes())
    assert cli("report").code == 0
    page = (runs / "index.html").read_text()
    assert page.count("<script") == page.count("</script") == 3
    assert "<img src=x" not in page
    (run,) = data_of(page)["runs"]
    assert run["name"] == name
    assert run["options"][HOSTILE] == HOSTILE
    assert run["numbers"]["sharpness"].keys() == {HOSTILE[:60]}
    for url in (run["path"], run["report"], *run["pictures"].values()):
        assert re.fullmatch(r"[A-Za-z0-9._~/%-]+", url)
    assert "%FF%FE.png" in run["pictures"]["\ufffd\ufffd.png"]


def test_pictures_say_what_they_show(cli, runs):
    folder = image_mean(runs, "one", 0.5, pictures=("a.png", "b.png", "c.png"))
    black = np.zeros((8, 8, 3), np.uint8)
    RunFolder(folder, "image-mean").write_image("a.png", black, rows=("l2", "<b>"), columns="xy")
    pj.images.write(folder / "b.png", black, description="\ud800\n" + 400 * "é")
    cli("report")
    (run,) = data_of((runs / "index.html").read_text())["runs"]
    assert run["descriptions"] == {
        "a.png": "Rows: l2, <b>. Columns: x, y.",
        "b.png": "?\ufffd" + 298 * "é" + "…",
    }


# --- Numbers -------------------------------------------------------------------------------

HEADLINES = {
    "demo": ({"agreement": {"l2": {"a": 0.5}, "vgg16": {"a": 0.5, "b": 1.0}}}, 0.75, "vgg16"),
    "compare": ({"p": {"ssim": 0.2, "l2": 9}, "q": {"ssim": 0.4, "l2": 9}}, 0.3, "ssim"),
    "two-afc": ({"scores": {"l2": {"all": {"mean": 0.6, "low": 0.5}}}}, 0.6, "l2"),
    "train-metric": ({"trained": {"mean": 0.8, "low": 0.7}, "people": 0.9}, 0.8, ""),
    "image-mean": ({"sharpness": {"l2": {"cat": 0.1}, "ssim": {"cat": 0.5}}}, 0.5, "ssim"),
    "cluster": (
        {"results": [{"distance": "l2", "method": "k", "scores": [{"nmi": 0.2}, {"nmi": 0.4}]}]},
        0.3,
        "l2, k",
    ),
    "style-transfer": (
        {"transfers": [{"distance": "vgg16", "losses": {"style": 0.5, "content": 0.1}}]},
        0.5,
        "vgg16",
    ),
    "invert": ({"trained": {"relu1_1": {"lpips": 0.1, "psnr": 30}}}, 0.1, "trained"),
    "glo": ({"held_out": {"l2": {"lpips-alex": 0.3}, "swd": {"lpips-alex": 0.2}}}, 0.2, "swd"),
    "super-resolution": (
        {"means": {"Set5": {"l1": {"lpips-alex": 0.2}, "bicubic": {"lpips-alex": 0.4}}}},
        0.2,
        "l1",
    ),
    "fast-style": ({"seconds": {"cat": 1.0, "dog": 3.0}}, 1.0, "cat"),
    "claims": ({"a": {"verdict": "holds"}, "b": {"verdict": "does not hold"}}, 1, ""),
}


@pytest.mark.parametrize(
    ("command", "value"), [("demo", lambda mean: mean), ("two-afc", lambda mean: {"mean": mean})]
)
def test_the_score_of_all_is_not_averaged_with_those_of_its_parts(command, value):
    parts = {"easy": value(0.9), "hard": value(0.3), "all": value(0.4)}
    results = {"agreement": {"l2": parts}, "scores": {"l2": parts}}
    assert headline(command, results).value == 0.4
    del parts["hard"], parts["all"]
    assert headline(command, results).value == 0.9


def test_precision_is_not_called_agreement():
    results = HEADLINES["two-afc"][0]
    assert headline("two-afc", results).what == "agreement"
    assert headline("two-afc", results | {"test": "jnd"}).what == "average precision"


def test_the_best_sharpness_is_that_of_the_pictures_themselves():
    results = {"sharpness": {"l2": {"cat": 0.3}, "lpips-vgg": {"cat": 0.9}, "noise": {"cat": 1.8}}}
    found = headline("image-mean", results)
    assert found.whose == "lpips-vgg"
    assert found.off == pytest.approx(0.1)


def test_numbers_of_what_is_first_do_not_compare_and_those_of_what_is_best_do():
    assert not headline("compare", {"p": {"ssim": 0.2, "l2": 9}}).comparable
    assert headline("image-mean", {"sharpness": {"l2": {"cat": 0.3}}}).comparable


@pytest.mark.parametrize("command", HEADLINES)
def test_every_command_has_its_one_number(command):
    results, value, whose = HEADLINES[command]
    found = headline(command, results)
    assert found.value == pytest.approx(value)
    assert found.whose == whose


def test_the_one_number_of_a_run_just_made(cli, runs, picture):
    """The layout that the command writes is the one that is read."""
    paths = picture("a.png"), picture("b.png", seed=1)
    assert cli("compare", *paths, "--distances", "l2", "ssim", "--name", "x").code == 0
    run = only(runs)
    assert run.state == "finished"
    assert run.headline.whose == "l2"
    assert run.headline.value == pytest.approx(run.numbers["a / b"]["l2"])


@pytest.mark.parametrize("results", [{}, {"sharpness": 3}, {"sharpness": {"l2": "high"}}])
def test_what_is_not_as_expected_has_no_number(results):
    assert headline("image-mean", results) is None
    assert headline("unheard-of", results) is None


def test_many_pairs_begin_with_their_means():
    pairs = {"a": {"l2": 0.5, "ssim": 0.1}, "mean": {"l2": 1.5, "ssim": None}}
    shown = averaged("compare", pairs)
    assert next(iter(shown.items())) == ("mean of 2 pairs", {"l2": 1.0, "ssim": 0.1})
    assert {name: shown[name] for name in pairs} == pairs
    assert averaged("compare", {"a": {"l2": 0.5}}) == {"a": {"l2": 0.5}}
    assert averaged("two-afc", pairs) == pairs


def test_trimmed_numbers_are_few_short_and_finite():
    shown, left_out = trimmed(
        {
            "curve": [float(n) for n in range(100)],
            "short": [1 / 3, 2.0],
            "named": [{"distance": "l2", "loss": 1}, {"distance": "l2", "loss": 2}],
            "nan": float("nan"),
            "text": "x" * 100,
            "true": True,
            "verdict": "holds",
        }
    )
    assert left_out == 0
    assert shown == {
        "curve": {"first": 0.0, "last": 99.0},
        "short": {"1": 0.333333, "2": 2.0},
        "named": {"l2": {"distance": "l2", "loss": 1}, "l2 2": {"distance": "l2", "loss": 2}},
        "true": True,
        "verdict": "holds",
    }
    many = {str(n): float(n) for n in range(MOST_NUMBERS + 7)}
    shown, left_out = trimmed(many)
    assert (len(shown), left_out) == (MOST_NUMBERS, 7)


# --- Colours -------------------------------------------------------------------------------


def luminance(colour):
    """WCAG's relative luminance of `#rgb` or `#rrggbb`."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    levels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in levels]
    return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_is_readable_on_every_ground(scheme):
    """WCAG 2.2, 1.4.3: a contrast of at least 4.5."""
    named = re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\)", LOOK)
    colours = {name: luminance(pair[scheme]) for name, *pair in named}
    for text in ("ink", "soft", "accent", "warn"):
        for ground in ("paper", "card", "mat"):
            darker, lighter = sorted((colours[text], colours[ground]))
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, ground)
