"""Films: which moments they show, and that they show what was written."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from experiments.common.film import add_film, due, write_frame
from experiments.common.judged import add_way
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder
from experiments.common.staged import Outcome

NAME = "l2 + 0.1 * vgg16"
WANTED = np.full((4, 8, 8, 3), 200, np.uint8)


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path, "glo")


def made_at(step):
    """Four images, each of another grey."""
    return np.stack([np.full((8, 8, 3), 10 * step + i, np.uint8) for i in range(4)])


def shown(folder, trainings):
    """The pictures of a page and their captions, in order."""
    report = Report("a", "b")
    add_film(report, folder, trainings)
    report.write(folder.path / "report.html")
    page = (folder.path / "report.html").read_text()
    urls = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
    images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(url)))) for url in urls]
    return images, re.findall(r"<figcaption>([^<]*)<", page)


def test_a_row_shows_the_first_images_at_every_moment_and_what_was_wanted(folder):
    for step in (2, 4):
        write_frame(folder, NAME, step, made_at(step), WANTED)
    images, captions = shown(folder, {NAME: {2: 1002, 4: 1004}})
    assert captions == ["step 1,002", "step 1,004", "original"]
    for image, step in zip(images, (2, 4), strict=False):
        assert image.shape == (18, 8, 3)
        first, second = made_at(step)[:2]
        np.testing.assert_array_equal(image[:8], first)
        np.testing.assert_array_equal(image[-8:], second)
    np.testing.assert_array_equal(images[2][:8], WANTED[0])


def test_many_moments_are_thinned_evenly_from_the_first_to_the_last(folder):
    for step in range(1, 26):
        write_frame(folder, NAME, step, made_at(step), WANTED)
    _, captions = shown(folder, {NAME: {step: step for step in range(1, 26)}})
    assert captions == [*(f"step {step}" for step in (1, 5, 9, 13, 17, 21, 25)), "original"]


def test_large_images_are_reduced(folder):
    """A page of eight moments of photographs would take tens of megabytes."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 400, 400, 3), dtype=np.uint8)
    write_frame(folder, NAME, 1, noise, noise)
    images, _ = shown(folder, {NAME: {1: 1}})
    assert [image.shape for image in images] == [(322, 160, 3)] * 2
    assert images[0].std() > 10


def test_a_moment_whose_file_was_removed_is_passed_over(folder):
    for step in (1, 3):
        write_frame(folder, NAME, step, made_at(step), WANTED)
    _, captions = shown(folder, {NAME: {1: 1, 2: 2, 3: 3}, "l1": {1: 1}})
    assert captions == ["step 1", "step 3", "original"]


def test_where_a_run_was_stopped_is_no_moment_of_its_film():
    assert due([10, 13, 20, 30, 36], 10) == [10, 20, 30, 36]
    assert due([], 10) == []


def test_losses_that_go_on_from_the_first_show_their_own_steps_counted_on(folder):
    """Files are named by the steps of a training; the page counts from the first under l1."""

    def lines(name, steps):
        return [{"under": name, "step": step, "loss": 1.0, "psnr": 20.0} for step in steps]

    for name in ("l1", NAME):
        for step in (2, 4):
            write_frame(folder, name, step, made_at(step + 10 * (name == NAME)), WANTED)
    first = Outcome("l1", None, lines("l1", (2, 4)))
    further = Outcome(NAME, None, [*first.metrics, *lines(NAME, (6, 7, 8))])
    report = Report("a", "b")
    add_way(report, folder, {"l1": first, NAME: further}, 2, "of crops")
    report.write(folder.path / "report.html")
    page = (folder.path / "report.html").read_text()
    assert re.findall(r"<figcaption>([^<]*)<", page) == [
        *("step 2", "step 4", "original"),
        *("step 6", "step 8", "original"),
    ]
    urls = re.findall(r'src="data:image/png;base64,([^"]*)" alt="[^"]*step [0-9]', page)
    greys = [np.asarray(Image.open(io.BytesIO(base64.b64decode(url))))[0, 0, 0] for url in urls]
    assert greys == [20, 40, 120, 140]
