"""The page over all runs in a real browser: by mouse, keyboard, touch and reader of screens."""

import base64
import io
import json
import shutil

import numpy as np
import pytest
from in_browser import as_wide_as_the_window, clean, find, unnamed, wait_for
from made_runs import HOSTILE, image_mean, write_run
from PIL import Image

import perceptual_jax as pj
from experiments.common.run_folder import RunFolder

pytestmark = pytest.mark.browser


@pytest.fixture
def page(cli, tmp_path):
    """The page over four runs, two of which can be compared; names as bad as they come."""
    runs = tmp_path / "runs"
    name = HOSTILE.replace("/", "")
    image_mean(
        runs, "first", 0.5, started="2026-01-01T00:00:00+00:00", pictures=("grid.png", "b.png")
    )
    image_mean(
        runs, "second", 0.9, started="2026-01-03T00:00:00+00:00",
        options={"seed": 7, "distances": ["l2", "ssim"]}, colour=(0.9, 0.4, 0.1),
    )  # fmt: skip
    write_run(
        runs, "glo", "stopped", started="2026-01-02T00:00:00+00:00", report=False, pictures=()
    )
    write_run(runs, name, name, results={name: 1}, options={name: name}, pictures=(f"{name}.png",))
    (runs / "glo" / "broken").mkdir()
    assert cli("report", "--out", runs).code == 0
    return runs / "index.html"


def names(driver):
    return [element.text for element in driver.find_elements("css selector", ".card h2")]


def press(driver, *keys):
    from selenium.webdriver import ActionChains

    ActionChains(driver).send_keys(*keys).perform()


def focused(driver):
    return driver.execute_script("return document.activeElement.id")


def choose(driver, selector, value):
    from selenium.webdriver.support.ui import Select

    Select(find(driver, selector)).select_by_value(value)


def test_it_opens_searches_filters_and_sorts(browse, page):
    driver = browse(page)
    assert len(names(driver)) == 5
    search, count = find(driver, "#search"), find(driver, "#count")
    assert count.text == "5 runs"
    assert count.get_attribute("role") == "status"  # read out when it changes
    search.send_keys("image-mean SSIM")
    assert names(driver) == ["second"]
    assert count.text == "1 of 5 runs"
    search.clear()
    search.send_keys("nothing is called so")
    assert count.text == "0 of 5 runs"
    assert "No run matches" in find(driver, "#cards").text
    press(driver, "\ue00c")  # Escape
    assert count.text == "5 runs"
    buttons = driver.find_elements("css selector", "#commands button")
    (mean,) = [button for button in buttons if button.text.startswith("image-mean")]
    mean.click()
    assert mean.get_attribute("aria-pressed") == "true"
    orders = {
        "newest": ["second", "first"], "oldest": ["first", "second"], "name": ["first", "second"],
        "number": ["second", "first"],
    }  # fmt: skip
    for order, expected in orders.items():
        choose(driver, "#sort", order)
        assert names(driver) == expected, order
    clean(driver)


def test_cards_link_to_reports_and_say_what_is_unfinished_or_wrong(browse, page):
    driver = browse(page)
    text = find(driver, "#cards").text
    assert "Unfinished" in text
    assert "--name stopped --resume" in text
    assert "there is no config.json" in text
    assert "0.900 sharpness · vgg16" in text
    find(driver, "#search").send_keys("second")
    find(driver, ".card a").click()
    assert driver.title == "a report"
    clean(driver)


def test_a_folder_that_was_moved_goes_on_working(browse, page, tmp_path):
    shutil.move(page.parent, tmp_path / "moved here & there")
    driver = browse(
        tmp_path / "moved here & there" / "index.html",
        fragment="#compare=image-mean/first,image-mean/second",
    )
    wait_for(driver, "return document.querySelector('.over').naturalWidth === 48")
    clean(driver)


def test_two_runs_are_compared(browse, page):
    driver = browse(page)
    for name in ("first", "second"):
        find(driver, f"input[aria-label='Compare image-mean / {name}']").click()
    assert find(driver, "#picked").text == "image-mean / first and image-mean / second"
    find(driver, "#compare").click()
    dialog = find(driver, "dialog[open]")
    wait_for(driver, "return document.querySelector('.over').naturalWidth === 48")
    options = find(driver, "#options")
    rows = [row.text.split() for row in options.find_elements("css selector", "tbody tr")]
    assert rows == [["distances", '["l2"]', '["l2",', '"ssim"]'], ["seed", "0", "7"]]
    assert "the same" not in options.text
    marks = [mark.text for mark in options.find_elements("css selector", "mark")]
    assert marks == [', "ssim"', "0", "7"]  # only what differs
    reading = find(driver, "#numbers p").text
    assert "Less is better of distances and errors, SSIM among them" in reading
    assert "Sharpness is best near 1" in reading
    numbers = [row.text for row in dialog.find_elements("css selector", "#numbers tbody tr")]
    assert numbers == ["sharpness · l2 · cat 0.1 0.1 0", "sharpness · vgg16 · cat 0.5 0.9 +0.4"]
    pictures = [option.text for option in dialog.find_elements("css selector", "#picture option")]
    assert pictures == ["grid.png"]  # what both have
    choose(driver, "#run-b", "image-mean/first")
    assert options.text == "All 2 options are the same."
    choose(driver, "#run-b", "glo/stopped")
    assert "has no pictures" in find(driver, "#pictures").text
    assert driver.current_url.endswith("#compare=image-mean/first,glo/stopped")
    press(driver, "\ue00c")  # Escape
    assert not driver.find_elements("css selector", "dialog[open]")
    driver.back()
    wait_for(driver, "return document.querySelector('dialog').open")
    find(driver, "#close").click()
    find(driver, "#clear").click()
    assert not find(driver, "#tray").is_displayed()
    clean(driver)


def test_numbers_that_both_have_come_first(browse, cli, tmp_path):
    runs, shared = tmp_path / "runs", {"cat": 0.5, "dog": 0.6}
    for name in "ab":
        alone = {f"{name}{n}": 0.1 for n in range(25)}
        image_mean(runs, name, 0.5)
        results = {"sharpness": {"l2": alone | shared}}
        (runs / "image-mean" / name / "results.json").write_text(json.dumps(results))
    assert cli("report", "--out", runs).code == 0
    driver = browse(runs / "index.html", fragment="#compare=image-mean/a,image-mean/b")
    rows = [row.text for row in driver.find_elements("css selector", "#numbers tbody tr")]
    assert rows[:2] == ["sharpness · l2 · cat 0.5 0.5 0", "sharpness · l2 · dog 0.6 0.6 0"]
    assert rows[2].startswith("sharpness · l2 · a0 0.1")
    assert len(rows) == 20
    find(driver, "#numbers .more").click()
    assert len(driver.find_elements("css selector", "#numbers tbody tr")) == 52
    clean(driver)


def test_runs_of_sums_in_other_weights_stand_side_by_side(browse, cli, tmp_path):
    runs = tmp_path / "runs"
    for name, total, lpips in (("a", "l1 + <b>", 0.2), ("b", "l1 + 2 * <b>", 0.3)):
        results = {"held_out": {total: {"l2": 0.5, "lpips-alex": lpips}, "mean": {"l2": 1.0}}}
        folder = write_run(runs, "glo", name, results=results)
        rows = ("held out", total)
        RunFolder(folder, "glo").write_image("grid.png", np.zeros((16, 8, 3)), rows=rows)
    assert cli("report", "--out", runs).code == 0
    driver = browse(runs / "index.html", fragment="#compare=glo/a,glo/b")
    rows = [row.text for row in driver.find_elements("css selector", "#numbers tbody tr")]
    assert rows == [
        "held_out · l1 + <b> | l1 + 2 * <b> · l2 0.5 0.5 0",
        "held_out · l1 + <b> | l1 + 2 * <b> · lpips-alex 0.2 0.3 +0.1",
        "held_out · mean · l2 1 1 0",
    ]
    under = [text.text for text in driver.find_elements("css selector", ".under")]
    assert under[:2] == ["A. Rows: held out, l1 + <b>.", "B. Rows: held out, l1 + 2 * <b>."]
    clean(driver)


def test_runs_of_compare_are_told_apart_and_sorted_by_distance(browse, cli, tmp_path):
    runs = tmp_path / "runs"
    for name, given, distance, value in [
        ("one", "x/blur.png", "l2", 0.2), ("two", "noise.png", "lpips-alex", 0.1),
        ("three", "<b>.png", "l2", 0.05), ("four", "moved.png", "lpips-alex", 0.3),
    ]:  # fmt: skip
        results = {"p": {distance: value, "gmsd": 0.0}}
        options = {"a": "photos/a.png", "b": given}
        write_run(runs, "compare", name, options=options, results=results, pictures=())
    assert cli("report", "--out", runs).code == 0
    driver = browse(runs / "index.html")
    choose(driver, "#sort", "number")
    assert names(driver) == ["three", "one", "two", "four"]
    texts = [card.text for card in driver.find_elements("css selector", ".card")]
    for text, given in zip(texts, ("<b>", "blur", "noise", "moved"), strict=True):
        assert f"a.png and {given}.png" in text
    find(driver, "input[aria-label='Compare compare / one (a.png, blur.png)']").click()
    assert "one (a.png, blur.png)" in find(driver, "#picked").text
    clean(driver)


def test_a_third_run_takes_the_place_of_the_first(browse, page):
    driver = browse(page)
    boxes = driver.find_elements("css selector", ".card input")
    for box in boxes[:3]:
        box.click()
    assert [box.is_selected() for box in boxes[:3]] == [False, True, True]
    boxes[1].click()
    assert "choose another" in find(driver, "#picked").text
    assert not find(driver, "#compare").is_displayed()


def colours(driver, *fractions):
    """What is seen at the places of the stage, from its left (0) to its right (1), as RGB."""
    stage = find(driver, ".stage")
    shot = Image.open(io.BytesIO(base64.b64decode(stage.screenshot_as_base64))).convert("RGB")
    row = int(shot.height * 0.8)  # below the tags and the handle
    return [shot.getpixel((int(shot.width * fraction), row)) for fraction in fractions]


BLUE, ORANGE = (51, 128, 204), (230, 102, 26)


def test_the_slider_wipes_by_keyboard(browse, page):
    driver = browse(page, fragment="#compare=image-mean/first,image-mean/second")
    wait_for(driver, "return document.querySelector('.stage').style.width !== ''")
    slider = find(driver, ".stage input")
    assert colours(driver, 0.1, 0.4, 0.6, 0.9) == [BLUE, BLUE, ORANGE, ORANGE]
    driver.execute_script("arguments[0].focus()", slider)
    press(driver, *["\ue012"] * 25)  # the left arrow
    assert slider.get_attribute("value") == "25"
    assert slider.get_attribute("aria-valuetext") == "25 percent A"
    assert colours(driver, 0.1, 0.4, 0.6, 0.9) == [BLUE, ORANGE, ORANGE, ORANGE]
    press(driver, "\ue010")  # End
    assert colours(driver, 0.1, 0.4, 0.6, 0.9) == [BLUE] * 4
    clean(driver)


def test_plots_are_not_wiped_but_stand_one_above_the_other(browse, cli, tmp_path):
    runs = tmp_path / "runs"
    for name in ("first", "second"):
        write_run(runs, "two-afc", name, results={}, pictures=("scores.png",))
    assert cli("report", "--out", runs).code == 0
    driver = browse(runs / "index.html", fragment="#compare=two-afc/first,two-afc/second")
    above, below = driver.find_elements("css selector", ".plot img")
    assert above.rect["y"] + above.rect["height"] <= below.rect["y"]
    assert not driver.find_elements("css selector", ".stage")
    clean(driver)


@pytest.mark.parametrize("size", [(64, 48), (16, 48)])
def test_where_b_is_of_another_shape_a_shows_on_its_own_side_alone(browse, cli, tmp_path, size):
    runs = tmp_path / "runs"
    image_mean(runs, "first", 0.5)
    image_mean(runs, "second", 0.9, colour=(0.9, 0.4, 0.1), size=size)
    assert cli("report", "--out", runs).code == 0
    driver = browse(runs / "index.html", fragment="#compare=image-mean/first,image-mean/second")
    wait_for(driver, "return document.querySelector('.under').textContent.startsWith('A is')")
    stage = find(driver, ".stage")
    for image in driver.find_elements("css selector", ".stage img"):
        driver.execute_script("arguments[0].dispatchEvent(new Event('load'))", image)
    note = (
        f"A is 48\u00d732, B 48\u00d7{size[0]}, shown as large as A. Drag, or use the arrow keys."
    )
    assert find(driver, ".under").text == note
    shot = Image.open(io.BytesIO(base64.b64decode(stage.screenshot_as_base64))).convert("RGB")
    right = np.asarray(shot)[:, shot.width * 6 // 10 :]
    assert not (right == BLUE).all(-1).any()
    assert (right == ORANGE).all(-1).any()
    clean(driver)


def test_the_slider_wipes_by_touch(browse, page):
    driver = browse(page, width=390, fragment="#compare=image-mean/first,image-mean/second")
    wait_for(driver, "return document.querySelector('.stage').style.width !== ''")
    box = driver.execute_script(
        "const b = document.querySelector('.stage').getBoundingClientRect();"
        "return [b.left, b.top, b.width, b.height]"
    )

    def touch(kind, fraction):
        points = [{"x": box[0] + box[2] * fraction, "y": box[1] + box[3] / 2}]
        event = {"type": kind, "touchPoints": [] if kind == "touchEnd" else points}
        driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)

    touch("touchStart", 0.5)
    for fraction in np.linspace(0.5, 0.2, 10):
        touch("touchMove", float(fraction))
    touch("touchEnd", 0.2)
    assert abs(int(find(driver, ".stage input").get_attribute("value")) - 20) <= 1
    assert colours(driver, 0.1, 0.4, 0.9) == [BLUE, ORANGE, ORANGE]


def test_keys_reach_everything(browse, page):
    driver = browse(page)
    press(driver, "/")
    assert focused(driver) == "search"
    press(driver, "a/b")  # typed, not a key of the page
    assert find(driver, "#search").get_attribute("value") == "a/b"
    press(driver, "\ue00c")
    assert find(driver, "#search").get_attribute("value") == ""
    press(driver, "second", "\ue004")  # Tab
    assert focused(driver) == "sort"
    for _ in range(4):  # over all commands, and onto the card
        press(driver, "\ue004")
    press(driver, "\ue004")
    assert driver.execute_script("return document.activeElement.textContent") == "second"
    press(driver, "\ue004", " ")
    assert find(driver, "#picked").text.startswith("image-mean / second")
    clean(driver)


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_follow_the_system_and_the_button(browse, page, dark):
    def is_dark():
        colour = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(int(level) for level in colour[4:-1].split(",")) < 3 * 128

    driver = browse(page, dark=dark)
    driver.execute_script("localStorage.clear()")
    driver.refresh()
    assert is_dark() == dark
    assert find(driver, "#theme").text == ("Light" if dark else "Dark")
    find(driver, "#theme").click()
    assert is_dark() != dark
    driver.refresh()
    assert is_dark() != dark  # it was kept
    driver.execute_script("localStorage.clear()")
    clean(driver)


def test_a_browser_that_stores_nothing_shows_the_page(browse, page):
    driver = browse(page)
    refuse = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no') }})"
    script = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": refuse})
    try:
        driver.refresh()
        assert len(names(driver)) == 5
        find(driver, "#theme").click()
        assert find(driver, "#theme").text == "Light"
        clean(driver)
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


@pytest.mark.parametrize("width", [320, 360, 390])
def test_a_phone_shows_it_without_scrolling_sideways(browse, page, width):
    driver = browse(page, width=width)
    assert as_wide_as_the_window(driver)
    find(driver, "input[aria-label='Compare image-mean / first']").click()
    find(driver, "input[aria-label='Compare image-mean / second']").click()
    assert as_wide_as_the_window(driver)
    find(driver, "#compare").click()
    wait_for(driver, "return document.querySelector('.stage').style.width !== ''")
    dialog = "const d = document.querySelector('dialog'); return d.scrollWidth <= d.clientWidth"
    assert driver.execute_script(dialog)
    assert as_wide_as_the_window(driver)
    clean(driver)


def test_readers_of_screens_hear_what_everything_is(browse, page):
    driver = browse(page)
    nameless, found = unnamed(driver)
    assert nameless == []
    assert ("searchbox", "Search runs by name, command or option") in found
    assert ("combobox", "Sort by") in found
    assert ("checkbox", "Compare image-mean / first") in found
    assert {"main", "search", "banner", "status"} <= {role for role, _ in found}
    driver = browse(page, fragment="#compare=image-mean/first,image-mean/second")
    wait_for(driver, "return document.querySelector('.stage').style.width !== ''")
    nameless, found = unnamed(driver)
    assert nameless == []
    assert ("dialog", "Two runs side by side") in found
    assert ("slider", "Where A ends and B begins, from the left") in found
    assert ("image", "grid.png of B, image-mean / second") in found


def test_a_hundred_runs_open_at_once(browse, cli, tmp_path):
    """Loaded and ready to use within a second, with hundreds of numbers each.

    The best of three: others may be at work on the machine.
    """
    runs = tmp_path / "runs"
    rng = np.random.default_rng(0)
    for n in range(100):
        results = {
            "sharpness": {f"d{i}": {f"s{j}": n + i + j / 3 for j in range(30)} for i in range(9)}
        }
        folder = write_run(runs, "image-mean", f"r{n}", results=results, pictures=())
        pj.images.write(folder / "grid.png", rng.random((160, 240, 3)))
    assert cli("report", "--out", runs).code == 0
    timing = "return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    taken = [browse(runs / "index.html").execute_script(timing) for _ in range(3)]
    driver = browse(runs / "index.html")
    assert len(names(driver)) == 100
    assert min(taken) < 1000
    clean(driver)
