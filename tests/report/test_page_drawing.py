"""What the page's modules draw of a report, whatever it holds: texts stay texts, and nothing is NaN."""

import json
import re

import msgspec
import pytest
from hypothesis import given

import page_documents as documents
from barnum.report.build import as_json, as_page
from barnum.verdicts.exchangeability import Exchangeability
from browsing import all_by, chromium, needs_browser, one, open_address, open_page
from page_site import LOOK, MARKUP, STRANGE, look_at, numbers, page_site, runner, some, texts

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(scope="module")
def site():
    with page_site() as made:
        yield made


@pytest.fixture
def run(browser, site):
    with runner(browser, site) as made:
        yield made


@some
@given(texts, numbers)
def test_whatever_a_report_says_is_text(browser, site, text, number):
    report = documents.full(text, number)
    seen = look_at(browser, site, report)
    # the parser of HTML takes line ends as one kind, and knows no U+0000: of what comes by the template
    by_script = browser.execute_script(
        """const of = (selector) => [...document.querySelectorAll(selector)];
        const [name] = of("#sample-title");
        const facts = of("dl.facts div").map((fact) => [...fact.children].map((node) => node.textContent));
        return {
            names: of("#table td.name button").map((button) => [button.textContent, button.title]),
            name: name.firstChild.data,
            sample: Object.fromEntries(facts).Sample,
            notes: of("#sample > p.warn").map((note) => note.textContent),
            refused: of("#overview li").at(-1).textContent,
            trivial: of("p.trivial")[0].textContent,
            titles: of(".where").map((place) => place.title),
            instructions: of(".insn").map((node) => node.textContent),
        };"""
    )
    shown = text or "(no name)"
    assert by_script["names"] == [[shown, text]] * 2
    assert (by_script["name"], by_script["sample"]) == (shown, text)
    assert by_script["notes"] == [f"Anomalous, though incomplete: {text}"] * bool(text) + [text, text]
    assert by_script["refused"] == f"{text}: {text}"
    assert f"“{text}” alone would call" in by_script["trivial"]
    assert any(title.startswith(f"{text} +0x") for title in by_script["titles"])
    assert text in by_script["instructions"]
    told = seen["text"].replace(text, "") if text else seen["text"]
    assert not re.search(r"NaN|undefined|\bnull\b|\[object", told)


@some
@given(texts)
def test_a_document_reads_back_from_the_page(browser, site, text):
    report = documents.full(text, 0.5)
    look_at(browser, site, report)
    read = browser.execute_script(
        "return JSON.stringify(JSON.parse(document.getElementById('report').textContent))"
    )
    assert json.loads(read) == json.loads(as_json(report))


def test_a_run_of_which_little_is_known(browser, site):
    report = documents.report([documents.sample()])
    seen = look_at(browser, site, report)
    assert "Nothing new and no surprisal" in seen["text"]
    heads = [head.get_attribute("textContent") for head in all_by(browser, "#table th")]
    assert heads == ["Document", "Label", "Verdict", "Wrong", "Mean surprisal", "Predictions"]
    facts = [fact.text for fact in all_by(browser, "dl.facts dt")]
    assert facts == ["Label", "Sample", "Wrong predictions", "Their mean confidence"]
    assert one(browser, "#tiles").text.split("\n") == [
        "1",
        "run: 1 benign, 0 malicious",
        "100",
        "predictions",
    ]


def test_it_is_told_that_runs_are_no_longer_like_those_learnt(browser, site):
    report = documents.report([documents.sample(q=0.25)])
    for alarm, text in ((None, None), (12, "the promise does <b>not</b> hold (after 12 runs)")):
        bet = Exchangeability(runs=20, evidence=30.0, alarm=alarm, stranger=None, text=text)
        overview = msgspec.structs.replace(report.overview, exchangeability=bet)
        look_at(browser, site, msgspec.structs.replace(report, overview=overview))
        told = [each.text for each in all_by(browser, "#overview p.alike")]
        assert told == ([] if text is None else ["The promise does <b>not</b> hold (after 12 runs)."])
    facts = [fact.text for fact in all_by(browser, "dl.facts div")]
    assert "Anomalous from a false discovery rate of\n25.0 %" in facts


def test_a_run_of_a_single_prediction(browser, site):
    curve = documents.curve(1, [0.0])
    window = documents.window(0, 1, [documents.transfer()], [0.0])
    look_at(browser, site, documents.report([documents.sample(transfers=1, curve=curve, windows=[window])]))
    # nothing is said of what is not known
    assert one(browser, "details.window summary").get_attribute("textContent") == (
        "Window 1predictions 0–0 · 50.0 % wrong"
    )
    heads = [head.get_attribute("textContent") for head in all_by(browser, ".transfers th")]
    assert heads == ["Prediction", "Expected", "Happened"]
    one(browser, ".plotbar button").click()
    assert one(browser, ".plotbar .range").text == "all 1 predictions"


def test_runs_of_unknown_label_are_in_the_table_and_in_no_chart(browser, site):
    known = [documents.sample(f"{label}.doc", label=label, wrong=0.5) for label in ("benign", "malicious")]
    unknown = [documents.sample(f"{i}.doc", label="unknown", wrong=0.1) for i in range(3)]
    look_at(browser, site, documents.report([*known, *unknown]))
    assert "runs: 1 benign, 1 malicious, 3 unknown" in one(browser, "#tiles").text
    assert "2 runs" in one(browser, "#charts svg").get_attribute("aria-label")
    browser.execute_script(
        """const choice = document.getElementById("by-label");
        choice.value = "unknown";
        choice.dispatchEvent(new Event("change"));"""
    )
    assert len(all_by(browser, "#table td.name")) == 3
    look_at(browser, site, documents.report(unknown))
    assert not all_by(browser, "#charts svg")


@some
@given(texts, numbers)
def test_runs_that_nothing_predicted(browser, site, text, number):
    places = [documents.Place(block=text, module=text, offset=3, branch=True), documents.Place(block="0x1")]
    rows = [
        documents.new_transfer(10, actual=1, instruction=text),
        documents.new_transfer(11, seen=1, novelty=0.0),
        documents.new_transfer(12, position=None, kind=None, seen=None, times=3, way=True, novelty=number),
    ]
    window = documents.window(
        10, 60, rows, [number] * 60, wrong=None, novelty=number, chosen_by="novelty", left_out=2
    )
    samples = [
        documents.compared(
            text,
            score=number,
            windows=[window],
            distinct_new=2,
            effects=[],
            curve=documents.curve(highest=[number, 0.0], value="novelty"),
        ),
        documents.compared("learnt", score=0.0, learnt=True, notes=[text]),
        documents.compared("usual", score=0.0),
        documents.compared("lost", verdict="refused", refused=text),
    ]
    report = documents.report(samples, places=places, predicts=False, failed=[text, f"b: {text}"])
    seen = look_at(browser, site, report)
    told = seen["text"].replace(text, "") if text.strip() else seen["text"]
    assert not re.search(r"NaN|undefined|\bnull\b|\[object", told)
    for word in ("prediction", "Wrong", "wrong predictions", "urprisal", "xpected"):
        assert word not in told, word
    # what is drawn at random may be a part of these
    assert "2not judged" in seen["text"] and "Documents that could not be judged (2)" in seen["text"]
    listed = browser.execute_script(
        "return [...document.querySelectorAll('#overview details:last-child li')].map((li) => li.textContent)"
    )
    assert listed == [text, f"b: {text}"]


def test_what_is_new_is_told_from_where_to_where(browser, site):
    places = [
        documents.Place(block="0x2", module="/lib/a.so", offset=0x10, branch=True),
        documents.Place(block="0x1", module="/lib/b.so", offset=0x30, function="open", function_offset=6),
    ]
    rows = [
        documents.new_transfer(10, actual=1, instruction="ret"),
        documents.new_transfer(11, seen=1, novelty=0.0),
        documents.new_transfer(12, position=None, kind=None, seen=None, times=3, way=True, actual=1),
    ]
    window = documents.window(10, 60, rows, wrong=None, novelty=4.0, chosen_by="novelty", left_out=2)
    alarm = documents.Alarm(prediction=10, position=None)
    run = documents.compared(windows=[window], distinct_new=2, first_alarm=alarm)
    look_at(browser, site, documents.report([run], places=places, predicts=False))
    cells = browser.execute_script(
        """return [...document.querySelectorAll(".transfers tbody tr")].map((row) =>
            [...row.children].map((cell) => cell.textContent));"""
    )
    assert cells == [
        ["7", "a.so +0x10ret", "b.so open+0x6 +0x30", "target never reached", "2.00"],
        ["7", "a.so +0x10return", "a.so +0x10", "target reached, not from here", "–"],
        ["–× 3", "a.so +0x10soon after", "b.so open+0x6 +0x30system call", "system call, on a way never gone",
         "2.00"],
    ]  # fmt: skip
    caption = one(browser, ".transfers caption").text
    assert caption == (
        "What is new among 50 transfers, in order; 2 more left out. Nominal runs show none of it. "
        "A dash: like a new one before it."
    )
    assert one(browser, ".where").get_attribute("title") == "/lib/a.so +0x10\nlast byte of the branch"


def test_a_run_that_is_anomalous_by_evidence_is_shown_before_nominal_ones(browser, site):
    samples = [
        documents.compared("usual", score=9.0),
        documents.compared("hijacked", score=1.0, verdict="anomalous", because="evidence"),
    ]
    look_at(browser, site, documents.report(samples, predicts=False))
    assert one(browser, "#sample-title").text.startswith("hijacked")


def test_a_report_without_runs(browser, site):
    site.report = documents.report()
    open_address(browser, f"{site.address}/page")
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30).until(lambda driver: one(driver, "#count").text)
    assert one(browser, "#count").text == "0 of 0 runs"
    assert "no run is like that" in one(browser, "#table").text
    one(browser, "body").send_keys("j")
    assert browser.execute_script(LOOK)["unsound"] == []
    assert browser.get_log("browser") == []


def test_many_refused_runs_are_cut_short(browser, site):
    refused = [documents.sample(f"{i}.doc", verdict="refused", refused="lost") for i in range(203)]
    look_at(browser, site, documents.report(refused))
    listed = browser.execute_script(
        "return [...document.querySelectorAll('#overview details:last-child li')].map((li) => li.textContent)"
    )
    assert (len(listed), listed[0], listed[-1]) == (201, "0.doc: lost", "and 3 more: see the table")


def test_texts_that_turn_the_direction_leave_other_cells_alone(browser, site):
    names = ["plain.doc", "\u202egnp.exe", "\u05d0\u05d1.doc", "plain2.doc"]
    look_at(browser, site, documents.report([documents.sample(name) for name in names]))
    # where a cell's text begins: at the left in each of them
    begins = browser.execute_script(
        """return [...document.querySelectorAll("#table tbody tr")].map((row) => {
            const range = document.createRange();
            range.selectNodeContents(row.cells[1]);
            return [range.getBoundingClientRect().left, row.cells[1].textContent];
        });"""
    )
    assert len(begins) == 4
    assert {text for _, text in begins} == {"benign"}
    assert len({left for left, _ in begins}) == 1


# keys, the theme, and the page as a whole


def test_keys_with_others_or_in_fields_choose_no_run(browser, site):
    samples = [documents.sample(f"{i}.doc", wrong=i / 10) for i in range(4)]
    look_at(browser, site, documents.report(samples))
    press = """const options = { bubbles: true, cancelable: true, ...arguments[1] };
        const event = new KeyboardEvent("keydown", options);
        document.querySelector(arguments[0]).dispatchEvent(event);
        return [document.querySelector("#sample-title").textContent.trim(), event.defaultPrevented];"""
    for where, key, title, taken in [
        ("body", {"key": "j"}, "2.doc", True),
        ("body", {"key": "j", "ctrlKey": True}, "2.doc", False),
        ("body", {"key": "k", "metaKey": True}, "2.doc", False),
        ("#find", {"key": "j"}, "2.doc", False),
        ("#by-label", {"key": "k"}, "2.doc", False),
        # arrows belong to the table, and names of what every object has are no keys
        ("body", {"key": "ArrowDown"}, "2.doc", False),
        ("body", {"key": "constructor"}, "2.doc", False),
        (".plot", {"key": "toString"}, "2.doc", False),
        ("#table button", {"key": "ArrowDown"}, "1.doc", True),
        ("#table button", {"key": "End"}, "0.doc", True),
        ("#table button", {"key": "PageUp"}, "3.doc", True),
        ("body", {"key": "k"}, "3.doc", True),
    ]:
        assert browser.execute_script(press, where, key) == [title, taken], (where, key)


@pytest.mark.parametrize(
    ("kept", "shown"), [("dark", "dark"), ("light", "light"), ("<b>", "auto"), (None, "auto")]
)
def test_the_theme_is_one_of_three(run, kept, shown):
    body = """localStorage.clear();
        if (given[0] !== null) localStorage.setItem("barnum-theme", given[0]);
        m.setUpTheme();
        const { value } = document.getElementById("theme");
        return [value, document.documentElement.getAttribute("data-theme")];"""
    assert run("theme", body, kept) == [shown, None if shown == "auto" else shown]


def test_the_theme_without_a_store(run):
    body = """Object.defineProperty(window, "localStorage", { get() { throw new Error("none here"); } });
        m.setUpTheme();
        const theme = document.getElementById("theme");
        theme.value = "dark";
        theme.dispatchEvent(new Event("change"));
        return document.documentElement.getAttribute("data-theme");"""
    assert run("theme", body) == "dark"


@pytest.mark.parametrize("document", ["full", "bare"])
def test_the_page_of_one_script_shows_what_its_modules_show(browser, site, tmp_path, document):
    report = (
        documents.full(MARKUP + STRANGE, 12.5)
        if document == "full"
        else documents.report([documents.sample()])
    )
    script = "document.querySelectorAll('script').forEach((e) => e.remove()); return document.body.innerHTML"
    look_at(browser, site, report)
    modules = browser.execute_script(script)
    file = tmp_path / "report.html"
    file.write_bytes(as_page(report))
    open_page(browser, file)
    joined = browser.execute_script(script)
    assert browser.get_log("browser") == []
    assert joined.strip() == modules.strip()


def test_an_incomplete_run_says_so_and_what_its_numbers_bound(browser, site):
    sample = documents.sample(
        "half.doc",
        label="malicious",
        verdict="anomalous",
        incomplete="30 % was lost",
        score=24.0,
        p_value=0.02,
        judged=40,
    )
    look_at(browser, site, documents.report([sample]))
    facts = browser.execute_script(
        """return Object.fromEntries([...document.querySelectorAll("dl.facts div")]
            .map((fact) => [...fact.children].map((node) => node.textContent)))"""
    )
    assert facts["Score"].startswith("at least 24.00")
    assert facts["p-value"] == "at most 0.020"
    assert facts["Judged"] == (
        "the first 40 of 100 predictions, before something was lost or another process was started"
    )
    (warned,) = browser.find_elements("css selector", "#sample > p.warn")
    assert warned.text == "Anomalous, though incomplete: 30 % was lost"
    tags = browser.find_elements("css selector", "span[title='incomplete: 30 % was lost']")
    assert {tag.text for tag in tags} == {"anomalous"}
