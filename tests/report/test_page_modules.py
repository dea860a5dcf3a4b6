"""The page's modules that work things out, each run in a browser as it is shipped."""

import math
import re
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import page_documents as documents
from barnum.report.document import Place
from browsing import chromium, needs_browser
from page_site import page_site, runner, some, texts

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


def each(run, module, expression, cases):
    """What an expression with the module ``m`` gives of each case ``c``."""
    return run(module, f"return given[0].map((c) => {expression});", list(cases))


# numbers as texts


@some
@given(st.lists(st.integers(-(2**53), 2**53), max_size=200))
def test_counts_have_their_thousands_apart(run, cases):
    assert each(run, "format", "m.count(c)", cases) == [f"{case:,}" for case in cases]


@some
@given(st.lists(st.one_of(st.floats(0, 1), st.floats(0, 0.01)), max_size=200))
def test_chances_are_told_however_small(run, cases):
    cases += [10 ** (-exponent / 9) for exponent in range(150)]
    for p, text in zip(cases, each(run, "format", "m.chance(c)", cases), strict=True):
        match = re.fullmatch(r"([<>]?) ?(\d+(?:\.\d+)?) %", text)
        assert match, text
        shown = float(match[2]) / 100
        if match[1] == ">":
            assert p >= 0.9995
        elif match[1] == "<":
            assert p < shown == 1e-8
        elif p < 0.001:
            # one digit, which is not 0
            assert re.fullmatch(r"0\.0*[1-9]", match[2]), text
            assert abs(shown - p) <= 0.51 * 10.0 ** -(len(match[2]))
        else:
            assert abs(shown - p) <= 0.0005001


def test_numbers_as_people_read_them(run):
    body = """return [
        m.fixed(null, 2), m.percent(null), m.chance(null), m.fixed(1.005, 1), m.percent(0.12345),
        m.percent(0.5, 0), m.short(0.1 + 0.2), m.short(-1234.4), m.short(1e-7), m.between(1000, 2e6),
        m.asOffset(4096), m.interval({ low: 0, high: 0.5 }, m.percent)];"""
    assert run("format", body) == [
        *("–", "–", "–", "1.0", "12.3 %", "50 %", "0.3", "-1,234", "1e-7", "1,000–2,000,000"),
        *("+0x1000", "95 %: 0.0 % to 50.0 %"),
    ]


# layout

ranges = st.tuples(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300)).map(sorted)


@some
@given(
    st.lists(st.tuples(st.one_of(ranges, st.tuples(st.floats(-9, 9), st.floats(9, 99))), st.integers(2, 20)))
)
def test_ticks_are_round_numbers_in_the_range(run, cases):
    for ((low, high), about), found in zip(
        cases, each(run, "layout", "m.ticks(...c[0], c[1])", cases), strict=True
    ):
        assert len(found) <= about + 1
        # a range without a length is taken for one of length 1
        slack = 1e-6 * max(abs(low), abs(high), high - low) + (1e-9 if high == low else 0)
        assert all(low - slack <= tick <= high + slack for tick in found)
        assert found == sorted(found)
        if high - low > 1e-9 * max(abs(low), abs(high)) and high - low > 1e-300:
            assert len(found) >= about / 2.6 - 1
            step = (high - low) / max(1, len(found))
            for one, other in pairwise(found):
                digits = (other - one) / 10 ** math.floor(math.log10((other - one) * (1 + 1e-9)))
                assert min(abs(digits - round_one) for round_one in (1, 2, 5)) < 1e-3
                assert other - one <= 2.6 * step + slack


@pytest.mark.parametrize(
    ("low", "high", "about", "ticks"),
    [
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 0, 5, [0]),
        (-3, 3, 5, [-2, 0, 2]),
        (1e17, 1e17 + 1, 5, [1e17]),
        (-1.7e308, 1.7e308, 5, []),
    ],
)
def test_ticks_of_some_ranges(run, low, high, about, ticks):
    assert run("layout", "return m.ticks(...given)", low, high, about) == pytest.approx(ticks)


@some
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.floats(0, 1)), max_size=100))
def test_a_scale_goes_from_one_end_to_the_other(run, cases):
    cases = [(low, low + size, low + share * size) for low, size, share in cases]
    script = "((s) => [s(c[0]), s(c[1]), s(c[2])])(m.scale(c[0], c[1], 40, 372))"
    for (low, high, value), (first, last, at) in zip(cases, each(run, "layout", script, cases), strict=True):
        assert (first, last) == pytest.approx((40, 372))
        assert at == pytest.approx(40 + 332 * (value - low) / (high - low), abs=1e-3)
    # of nothing at all, too
    assert run("layout", "return m.scale(5, 5, 40, 372)(5)") == 40


@some
@given(st.lists(st.integers(0, 39), max_size=300))
def test_a_histogram_counts_each_value_once(run, bins):
    values = [-2 + 5 * (bin + 0.5) / 40 for bin in bins]
    counted = run("layout", "return m.histogram(given[0], -2, 3, 40)", values)
    assert counted == [bins.count(bin) for bin in range(40)]
    assert run("layout", "return m.histogram([0, 1, 0.25], 0, 1, 4)") == [1, 1, 0, 1]


whole = st.tuples(
    st.floats(-1e9, 1e9), st.floats(0, 1e9), st.one_of(st.integers(1, 100), st.integers(1, 2**40))
)


@some
@given(st.lists(whole, max_size=100))
def test_a_range_stays_within_the_run(run, cases):
    cases = [(low, low + size, end) for low, size, end in cases]
    for (low, high, end), (first, last) in zip(
        cases, each(run, "layout", "m.rangeWithin(...c)", cases), strict=True
    ):
        assert 0 <= first <= last <= end * (1 + 1e-12)
        assert last - first >= min(20, end) * (1 - 1e-9)
        if low >= 0 and high <= end and high - low >= 20:
            assert (first, last) == pytest.approx((low, high), rel=1e-9, abs=1e-6)


def test_zoom_and_back(run):
    assert run("layout", "return m.zoomed(100, 300, 0.5)") == [150, 250]
    assert run("layout", "return m.zoomed(...m.zoomed(100, 300, 2), 0.5)") == [100, 300]


def test_a_path_and_the_steps_of_a_distribution(run):
    body = "return m.line(m.distributionSteps([0.5, 1]), (x) => 10 * x, (y) => 10 - 10 * y)"
    assert run("layout", body) == "M0.0,10.0L5.0,10.0L5.0,5.0L10.0,5.0L10.0,0.0L10.0,0.0"
    assert run("layout", "return m.distributionSteps([])") == [[0, 0], [1, 1]]


# which runs

letters = st.text("aAbBé<> \u202e\u05d0", max_size=3)
runs = st.builds(
    dict, name=letters, sample=letters, label=st.sampled_from(["benign", "malicious"]),
    verdict=st.sampled_from([None, "nominal", "anomalous", "refused"]),
    score=st.sampled_from([None, -2.5, 0.0, 1.0]),
)  # fmt: skip
filters = st.fixed_dictionaries(
    {
        "find": letters,
        "label": st.sampled_from(["", "benign", "malicious"]),
        "verdict": st.sampled_from(["", "nominal", "anomalous", "refused", "wrong"]),
    }
)


@some
@given(st.lists(runs, max_size=60), filters, st.booleans())
def test_runs_are_found_filtered_and_sorted(run, samples, filter, down):
    body = (
        "return m.chosenRuns(given[0], given[1], (s) => (s.score === null ? -Infinity : s.score), given[2])"
    )
    find = filter["find"].strip().lower()
    wrong = {("benign", "anomalous"), ("malicious", "nominal")}

    def fits(sample):
        if filter["verdict"] == "wrong":
            verdict = (sample["label"], sample["verdict"]) in wrong
        else:
            verdict = filter["verdict"] in ("", sample["verdict"])
        named = find in sample["name"].lower() or find in sample["sample"].lower()
        return named and filter["label"] in ("", sample["label"]) and verdict

    def order(index):
        score = samples[index]["score"]
        score = -math.inf if score is None else score
        return (-score if down else score, samples[index]["name"], index)

    expected = sorted((index for index, sample in enumerate(samples) if fits(sample)), key=order)
    assert run("choice", body, samples, filter, down) == expected


@pytest.mark.parametrize("down", [True, False])
def test_equal_runs_are_listed_by_name_and_then_as_they_came(run, down):
    samples = [{"name": name, "sample": "s"} for name in ("b", "a", "c", "a")]
    body = "return m.chosenRuns(given[0], { find: '', label: '', verdict: '' }, () => 0, given[1])"
    assert run("choice", body, samples, down) == [1, 3, 0, 2]


def test_rows_ahead_and_back(run):
    cases = [(5, 1), (5, -1), (3, 100), (3, -100), (4, 1)]
    assert each(run, "choice", "m.runAfter([7, 5, 3], c[0], c[1])", cases) == [3, 7, 3, 7, 7]


@some
@given(st.lists(texts, max_size=50), st.integers(0, 2**31), st.integers(0, 2**31))
def test_an_address_names_a_run_that_is_there(run, addresses, index, runs):
    named = run("address", "return m.runOf(m.addressOf(given[0]), given[1])", index, runs)
    assert named == (index if index < runs else None)
    wrong = [
        *addresses,
        "",
        "#run=",
        "#run=-1",
        "#run=1e3",
        "#run=0x1",
        " #run=1",
        "#run=1 ",
        "#run=" + "9" * 400,
    ]
    assert set(each(run, "address", "m.runOf(c, 1e9)", wrong)) == {None}


# along a run


def test_what_is_known_at_a_place_of_a_run(run):
    curve = documents.curve(1000, [4.0, 6.0, 1.0, 0.5])
    sample = msgspec.to_builtins(documents.sample(transfers=1000, curve=curve))
    detail = {"begin": 300, "each": 1, "values": [1.0, 2.5]}
    coarse = {"begin": 600, "each": 10, "values": [7.0]}
    body = "return given[2].map((at) => m.textAt(given[0], given[1], at))"
    assert run("curve", body, sample, [detail, coarse], [0, 301.9, 302, 605, 999.9, 1000]) == [
        "predictions 0–249: mean 2.000, maximum 4.00 nats",
        "prediction 301: 2.50 nats",
        "predictions 250–499: mean 3.000, maximum 6.00 nats",
        "predictions 600–609, maximum: 7.00 nats",
        "predictions 750–999: mean 0.250, maximum 0.50 nats",
        "predictions 750–999: mean 0.250, maximum 0.50 nats",
    ]
    sample["curve"]["value"] = "mistakes"
    assert run("curve", body, sample, [], [0]) == ["predictions 0–249: mean 2.000, maximum 4.00"]


@some
@given(st.integers(1, 900), st.floats(1, 1e6), st.floats(0, 1), st.floats(0, 1))
def test_bins_cover_what_is_shown(run, bins, each_, one, other):
    low, high = (share * bins * each_ for share in sorted((one, other)))
    curve = {"each": each_, "mean": [0] * bins, "highest": list(range(bins))}
    body = "const [a, b] = m.binsWithin(...given); return [a, b, m.highestOf(given[0], a, b)]"
    first, last, highest = run("curve", body, curve, low, high)
    assert first >= 0 and last <= bins
    assert first * each_ <= low * (1 + 1e-12) and last * each_ >= high * (1 - 1e-12)
    assert highest == max(0, last - 1 if last > first else 0)


def test_single_predictions_are_shown_where_they_are_wide_enough(run):
    windows = [{"detail": {"begin": begin, "each": 1, "values": [0.0] * 100}} for begin in (0, 500, 5000)]
    body = "return m.detailsWithin(...given).map((detail) => detail.begin)"
    assert run("curve", body, windows, 0, 1000, 500) == [0, 500]
    assert run("curve", body, windows, 0, 1000, 499) == []
    # what ends where the range begins is not in it
    assert run("curve", body, windows, 100, 500, 500) == []
    assert run("curve", body, windows, 99, 501, 500) == [0, 500]


# places and elements


def test_blocks_are_named_by_what_is_known_of_them(run):
    places = [
        Place(block="0x7f", block_class=None),
        Place(block_class=12),
        Place(block="0x1", module="/usr/lib/libc.so", offset=4096, function="f", function_offset=16),
        Place(block="0x1", module="C:\\Windows\\a.dll", offset=255),
        Place(block="0x1", module="/", offset=2**53 - 1, function="f", function_offset=0),
        Place(block="0x1", module="NtOpenFile"),
    ]
    body = """const told = (report, index) => {
          const node = m.placeOf(report, index);
          return [node.textContent, node.title];
        };
        const [places] = given;
        return [null, ...places.keys()].map((index) => told({ places, calls: false }, index))
          .concat([told({ places, calls: true }, 5)]);"""
    assert run("place", body, [msgspec.to_builtins(place) for place in places]) == [
        ["unknown", ""],
        ["0x7f", "no memory map tells its module"],
        ["class 12", ""],
        ["libc.so f+0x10 +0x1000", "/usr/lib/libc.so +0x1000\nblock 0x1"],
        ["a.dll +0xff", "C:\\Windows\\a.dll +0xff\nblock 0x1"],
        ["/ f +0x1fffffffffffff", "/ +0x1fffffffffffff\nblock 0x1"],
        ["NtOpenFile +0x0", "NtOpenFile +0x0\nblock 0x1"],
        ["NtOpenFile ", "call NtOpenFile"],
    ]


@some
@given(st.lists(texts, max_size=60))
def test_elements_hold_text_as_it_is(run, cases):
    body = """return given[0].map((text) => {
        const attributes = { title: text, class: text, hidden: false, lang: null, open: true };
        const node = m.el("p", attributes, text, null, [text, 0]);
        document.body.append(node);
        const { title, className, textContent } = node;
        return [node.childElementCount, textContent, title, className, node.getAttributeNames()];
    });"""
    for text, answer in zip(cases, run("dom", body, cases), strict=True):
        assert answer == [0, f"{text}{text}0", text, text, ["title", "class", "open"]]


def test_elements_listen_to_functions_alone(run):
    body = """let heard = 0;
        const button = m.el("button", { onclick: () => { heard += 1; } }, "a");
        const shape = m.svg("rect", { x: 0, width: null, onclick: () => { heard += 10; } });
        button.click();
        shape.dispatchEvent(new Event("click"));
        return [heard, button.hasAttribute("onclick"), shape.namespaceURI, shape.getAttributeNames()];"""
    assert run("dom", body) == [11, False, "http://www.w3.org/2000/svg", ["x"]]
