"""What is asked of any page in a real browser."""

import json

# Roles that a person acts on, or that stand for what they cannot see.
NAMED = {
    "button", "checkbox", "combobox", "dialog", "image", "link", "listbox", "option", "searchbox",
    "slider", "textbox",
}  # fmt: skip


def find(driver, selector):
    return driver.find_element("css selector", selector)


def clean(driver):
    """Nothing was complained of, and nothing asked for that is not a file here."""
    complaints = [line["message"] for line in driver.get_log("browser")]
    assert complaints == []
    events = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert asked
    assert all(url.startswith(("file:", "data:", "about:")) for url in asked)
    assert "owned" not in driver.title


def as_wide_as_the_window(driver):
    return driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def unnamed(driver):
    """What has a role that needs a name, and none; and all names by role."""
    nodes = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    found = [
        (node["role"]["value"], node.get("name", {}).get("value", "").strip())
        for node in nodes
        if not node["ignored"]
    ]
    return [role for role, name in found if role in NAMED and not name], found


def wait_for(driver, script):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 20).until(lambda d: d.execute_script(script))
