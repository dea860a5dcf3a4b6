"""The page of a report in a browser: it asks for nothing, says nothing wrong, and can be used by keyboard."""

import json
import time
from pathlib import Path

import msgspec
import pytest
from test_report import HOSTILE, originals, write

from barnum.report.build import Request, as_page, build
from barnum.report.document import Place
from browsing import all_by, chromium, needs_browser, one, open_page, wait_until_drawn

pytestmark = needs_browser

SAMPLES = 50


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A page of 50 runs, one of them with a name that would like to be HTML."""
    folder = tmp_path_factory.mktemp("report") / "eval"
    for i in range(SAMPLES - 2):
        write(folder, "benign", i, {200: float(i % 5)}, count=3000)
    write(folder, "malicious", 90, {1000: 9.0, 1020: 9.0, 2000: 3.0}, count=3000)
    write(folder, "malicious", 91, {1500: 12.0}, count=3000, name=HOSTILE)
    file = folder.parent / "report.html"
    file.write_bytes(as_page(build(Request(folder=folder))))
    return file


@pytest.fixture
def opened(browser, page):
    return open_page(browser, page)


def press(driver, *keys):
    driver.switch_to.active_element.send_keys(*keys)


def shown_range(driver):
    plot = one(driver, ".plot")
    return int(plot.get_attribute("data-low")), int(plot.get_attribute("data-high"))


def title(driver):
    return one(driver, "#sample-title").text


def test_it_asks_for_nothing_and_says_nothing_wrong(opened, page):
    one(opened, ".plotbar button").click()
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked == [page.as_uri()]
    assert opened.get_log("browser") == []
    assert len(all_by(opened, "#table tbody tr")) == SAMPLES
    assert page.stat().st_size < 5 << 20


def test_a_policy_keeps_it_from_asking(opened):
    opened.execute_script("new Image().src = 'http://127.0.0.1:9/x.png'; fetch('http://127.0.0.1:9/y')")
    told: list[str] = []
    limit = time.monotonic() + 20
    while not any("Content Security Policy" in message for message in told):
        assert time.monotonic() < limit, told
        time.sleep(0.05)
        told += [entry["message"] for entry in opened.get_log("browser")]


def test_the_worst_run_is_shown_first_and_others_by_choice(opened):
    assert title(opened).startswith("malicious-90.doc")
    assert all_by(opened, "details.window")
    rows = all_by(opened, "#table tbody tr")
    rows[1].find_element("css selector", "button").click()
    assert title(opened).startswith(HOSTILE.split("\u2028")[0])
    assert all_by(opened, "img") == []
    assert opened.execute_script("return document.querySelector('tr.chosen button').textContent") == HOSTILE


def test_runs_are_chosen_by_keyboard(opened):
    from selenium.webdriver.common.keys import Keys

    one(opened, "#table tbody tr button").click()
    before = title(opened)
    press(opened, Keys.ARROW_DOWN)
    second = title(opened)
    assert second != before
    press(opened, "j")
    assert title(opened) not in (before, second)
    press(opened, "k")
    assert title(opened) == second
    press(opened, Keys.HOME)
    assert title(opened) == before
    assert opened.switch_to.active_element.get_attribute("aria-current") == "true"


def test_an_address_names_a_run(browser, page):
    index = [sample["name"] for sample in data(open_page(browser, page))].index("benign-7.doc")
    assert title(open_page(browser, page, f"#run={index}")).startswith("benign-7.doc")
    assert title(open_page(browser, page, "#run=999999")).startswith("malicious-90.doc")


def data(driver):
    return driver.execute_script("return JSON.parse(document.getElementById('report').textContent).samples")


def test_the_table_sorts_and_filters(opened):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    def names():
        script = "return [...document.querySelectorAll('#table tbody tr button')].map(b => b.textContent)"
        return opened.execute_script(script)

    heads = {head.get_attribute("textContent"): head for head in all_by(opened, "#table th button")}
    heads["Document"].click()
    assert names()[:2] == sorted(names())[:2]
    heads["Document"].click()
    assert names()[0] == "malicious-90.doc"
    assert one(opened, "th[aria-sort]").get_attribute("aria-sort") == "descending"
    one(opened, "#find").send_keys("benign-1")
    assert set(names()) == {"benign-1.doc", *(f"benign-1{i}.doc" for i in range(10))}
    assert one(opened, "#count").text == "11 of 50 runs"
    # letters that are typed choose no run
    before = title(opened)
    one(opened, "#find").send_keys("jk")
    assert title(opened) == before
    assert "no run is like that" in one(opened, "#table tbody").text
    one(opened, "#find").send_keys(Keys.CONTROL, "a")
    one(opened, "#find").send_keys(Keys.BACKSPACE)
    Select(one(opened, "#by-verdict")).select_by_visible_text("anomalous")
    assert one(opened, "#count").text == "2 of 50 runs"


def test_the_plot_zooms_by_buttons_keys_and_mouse(opened):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    assert shown_range(opened) == (0, 3000)
    opened.execute_script("document.querySelector('.plot').focus()")
    press(opened, "+")
    assert shown_range(opened) == (750, 2250)
    press(opened, Keys.ARROW_RIGHT)
    assert shown_range(opened) == (1125, 2625)
    press(opened, "-")
    press(opened, "0")
    assert shown_range(opened) == (0, 3000)
    buttons = {button.text: button for button in all_by(opened, ".plotbar button")}
    assert not buttons["Whole run"].is_enabled()
    buttons["Window 1"].click()
    low, high = shown_range(opened)
    assert low < 1000 and high > 1050 and high - low < 200
    # single predictions are drawn there, and the first alarm
    assert all_by(opened, ".plot .detail")
    assert all_by(opened, ".plot .alarm")
    buttons["Whole run"].click()
    plot = one(opened, ".plot")
    mouse = ActionChains(opened, duration=50)
    mouse.move_to_element_with_offset(plot, -100, 0).click_and_hold().move_by_offset(200, 0).perform()
    mouse.release().perform()
    low, high = shown_range(opened)
    assert 0 < low < high < 3000
    assert "mean" in one(opened, ".readout").text or "prediction" in one(opened, ".readout").text
    ActionChains(opened).double_click(plot).perform()
    assert shown_range(opened) == (0, 3000)


def test_light_and_dark(opened):
    from selenium.webdriver.support.ui import Select

    def paper():
        return opened.execute_script("return getComputedStyle(document.body).backgroundColor")

    colours = {}
    for scheme in ("light", "dark"):
        feature = [{"name": "prefers-color-scheme", "value": scheme}]
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
        colours[scheme] = paper()
    assert colours["light"] != colours["dark"]
    theme = Select(one(opened, "#theme"))
    theme.select_by_value("light")
    assert paper() == colours["light"]
    theme.select_by_value("dark")
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert paper() == colours["dark"]
    # it is kept
    opened.refresh()
    wait_until_drawn(opened)
    assert paper() == colours["dark"]
    Select(one(opened, "#theme")).select_by_value("auto")


def test_print_shows_the_overview_and_the_run_without_controls(opened):
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not any(element.is_displayed() for element in all_by(opened, ".controls, .plotbar, .skip"))
    assert one(opened, "#sample").is_displayed() and one(opened, "#charts").is_displayed()
    opened.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert all_by(opened, "details:not([open])") == []
    opened.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert all_by(opened, "details:not([open])")
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_skip_link_and_the_names_of_things(opened):
    opened.execute_script("document.querySelector('.skip').focus()")
    assert one(opened, ".skip").is_displayed()
    unnamed = opened.execute_script(
        "return [...document.querySelectorAll('button, select, input, svg')].filter(e => !("
        "e.textContent.trim() || e.getAttribute('aria-label') || (e.labels && e.labels.length))).length"
    )
    assert unnamed == 0
    assert opened.execute_script("return [...document.querySelectorAll('table')].every(t => t.caption)")
    wide = opened.execute_script("return document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0


def test_whatever_a_report_holds_stays_text(browser, tmp_path):
    write(tmp_path / "eval", "malicious", 0, {100: 50.0}, name=HOSTILE)
    report = build(Request(folder=tmp_path / "eval"))
    place = Place(block="0x1", module=f"/{HOSTILE}", offset=1, function=HOSTILE, function_offset=2)
    sample = msgspec.structs.replace(report.samples[0], notes=[HOSTILE], sample=HOSTILE, refused=HOSTILE)
    hostile = msgspec.structs.replace(
        report,
        places=[place] * len(report.places),
        samples=[sample],
        notes=[HOSTILE],
        evaluations=HOSTILE,
        classifier=msgspec.structs.replace(report.classifier, description=HOSTILE),
    )
    file = tmp_path / "report.html"
    file.write_bytes(as_page(hostile))
    opened = open_page(browser, file)
    assert opened.get_log("browser") == []
    assert all_by(opened, "img") == []
    assert len(all_by(opened, "script")) == 2
    shown = opened.execute_script("return document.querySelector('td.place .where').textContent")
    assert f"{HOSTILE}+0x2 +0x1" in shown


@pytest.mark.parametrize("wrong", [0.0, 0.5, 1.0])
def test_pages_of_other_evaluations(browser, tmp_path, wrong):
    folder = originals(tmp_path / "eval", ["benign"] * 3, [wrong] * 3)
    file = tmp_path / "report.html"
    file.write_bytes(as_page(build(Request(folder=folder))))
    opened = open_page(browser, file)
    assert opened.get_log("browser") == []
    assert len(all_by(opened, "#table tbody tr")) == 3
    assert "There are no verdicts" in one(opened, "#overview").text
