"""`kit report`: figures that can be checked by hand, and the page in a real browser."""

import json
import re
from contextlib import contextmanager

import pytest
from synthetic import EVIL_NAME, FORMULA, TABLE, big_class, student, write_results

from autograder.batch import Options, ResultStore
from autograder.desk.attention import attention
from autograder.desk.figures import failures, histogram, task_figures
from autograder.desk.results import load_class
from autograder.tasks import FILES, ROOT
from tools.cli import main

# What a folder of results may look like -> what the one line of the answer says.
BROKEN = {
    "half a file": ('{"id": "a", "total": 3', "not a whole JSON file"),
    "no JSON": ("\x00\x01", "not a whole JSON file"),
    "another JSON": ('{"nbformat": 4}', "it has no tasks"),
    "NaN for a total": (json.dumps(student("a", total=float("nan"))), "it has no total"),
    "text for points": (json.dumps(student("a")).replace('"points": 12', '"points": "12"', 1), "a task has no points"),
    "another table": (json.dumps(student("a", tasks_sha256="old")), "another table of tasks"),
    "the same student": (json.dumps(student("b")), "are both of student 'b'"),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = write_results(tmp_path_factory.mktemp("class") / "out", big_class())
    assert main(["report", str(folder), "--pages", str(folder / "pages"), "--title", "Fall & <b>"]) == 0
    return folder / "report.html"


def table(page):
    """[(name, cells)] of the rows that the table of students shows."""
    body = re.search(r'<table id="students">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)[1]
    rows = re.findall(r"<tr([^>]*)>(.*?)</tr>", body, re.DOTALL)
    shown = [row for attributes, row in rows if "hidden" not in attributes]
    return [re.search(r">([^<>]*)</a>", row)[1] for row in shown]


def test_page_runs_in_a_browser_and_nothing_of_a_name_does(report, chromium):
    page = chromium(report)
    assert "300 of 300 students shown" in page  # written by the page's own script, so its policy lets that one run
    assert "<title>Fall &amp; &lt;b&gt;</title>" in page
    assert "&lt;script&gt;document.title='owned'&lt;/script&gt;" in page
    assert FORMULA in table(page)
    assert len(table(page)) == 300
    assert EVIL_NAME not in page


def test_policy_stops_a_script_that_escaping_would_have_missed(report, chromium):
    page = report.read_text().replace("</main>", f"</main>{EVIL_NAME}<img src=x onerror=document.title='owned'>")
    unsafe = report.with_name("unsafe.html")
    unsafe.write_text(page)
    assert "<title>owned</title>" not in chromium(unsafe)
    unsafe.write_text(re.sub(r"<meta http-equiv[^>]*>", "", page))
    assert "<title>owned</title>" in chromium(unsafe)  # so the policy it was


# What a person does -> the script that does it, how many students are shown then, and what is true of them.
ACTIONS = {
    "sort by total, down": ("buttons[2].click(); buttons[2].click()", 300, lambda names: "perfect" in names[:20]),
    "sort by name, down": ("buttons[0].click()", 300, lambda names: names[1].startswith("Ünïcode 3")),
    "search": ("type('STUDENT28 zip')", 8, lambda names: names[0] == "student280"),
    "who needs a look": ("choose('any')", 6, lambda names: "broken-zip" in names),
    "one kind": ("choose('limit')", 1, lambda names: names == ["slow"]),
}


def test_table_sorts_and_filters(report, chromium):
    page = re.sub(r"<meta http-equiv[^>]*>", "", report.read_text())
    helpers = """
      const buttons = document.querySelectorAll('#students thead button');
      const type = (text) => { search.value = text; search.dispatchEvent(new Event('input')); };
      const choose = (kind) => { only.value = kind; only.dispatchEvent(new Event('change')); };
    """
    for name, (action, count, right) in ACTIONS.items():
        acted = report.with_name("acted.html")
        acted.write_text(page.replace("</body>", f"<script>{helpers}{action}</script></body>"))
        dom = chromium(acted)
        assert f"{count} of 300 students shown" in dom, name
        assert len(table(dom)) == count, name
        assert right(table(dom)), name
        assert len(re.findall(r"<th [^>]*aria-sort=", dom)) == 1, name


def test_page_needs_no_network_and_names_its_controls(report):
    page = report.read_text()
    assert not re.findall(r"(?:src|href)\s*=\s*['\"]?(?:https?:)?//", page)
    assert "url(" not in page
    assert "@import" not in page
    assert '<html lang="en">' in page
    assert page.count("<h1>") == 1
    controls = re.findall(r"<(?:input|select)\b[^>]*>", page)
    assert len(controls) == 2
    assert all(re.search(rf"<label>[^<]+{re.escape(control)}", page) for control in controls)
    assert all(
        re.sub("<[^>]*>", "", inside).strip() for inside in re.findall(r"<button[^>]*>(.*?)</button>", page, re.DOTALL)
    )
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colors as WCAG 2 defines it."""

    def luminance(color):
        digits = color if len(color) == 6 else "".join(2 * digit for digit in color)
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(theme):
    blocks = re.findall(r":root \{([^}]*--text[^}]*)\}", (ROOT / "autograder/desk/page.css").read_text())
    colors = dict(re.findall(r"--(\w+): #(\w+)", blocks[theme]))
    for text in ("text", "soft", "link", "good", "some", "bad"):
        for back in ("back", "panel"):
            assert contrast(colors[text], colors[back]) >= 4.5, (text, back)  # level AA
    assert min(contrast(colors["text"], colors[back]) for back in ("add", "del")) >= 4.5


def test_students_pages_are_linked_and_hold_no_flag(report):
    pages = sorted((report.parent / "pages").iterdir())
    assert len(pages) == 300
    links = re.findall(r'href="(pages/[^"]+)"', report.read_text())
    assert sorted(links) == [f"pages/{path.name}" for path in pages]
    text = "".join(path.read_text() for path in pages)
    assert "For a person to look at" not in text
    assert "isolation: process" in text
    assert "graded at process: look" not in text  # what a level leaves open is no student's business


def test_figures_of_a_task_are_those_of_a_small_class(tmp_path):
    def one(name, points, rest):
        results = student(name, 0.0)
        results["tasks"][0] |= {"points": points, "status": "partial" if points else "failed"}
        return results | {"total": points + rest}

    # 12 points: one has all, two have half, two have nothing; a sixth could not be taken in and does not count.
    students = [one("a", 12, 40), one("b", 6, 30), one("c", 6, 30), one("d", 0, 20), one("e", 0, 20)]
    results = load_class(write_results(tmp_path / "out", [*students, student("f", 0.0, seed=None)]))
    first = task_figures(results)[0]
    assert (first.full, first.partial, first.nothing, first.not_begun) == (1, 2, 2, 0)
    assert first.difficulty == pytest.approx((12 + 6 + 6) / 5 / 12)
    # Points 12, 6, 6, 0, 0 and the rest 40, 30, 30, 20, 20 lie on one line.
    assert first.discrimination == pytest.approx(1.0)
    second = task_figures(results)[1]
    assert (second.not_begun, second.discrimination) == (5, None)


def test_histogram_counts_every_total_once():
    bars = histogram([0, 9.99, 10, 99, 100], 100)
    assert [bar["count"] for bar in bars] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]


def test_failures_that_differ_in_numbers_only_count_as_one(tmp_path):
    students = [student("a", 0.0), student("b", 0.0), student("c", 0.0)]
    for one, text in zip(students, ("got 3 rows (common.py:7)", "got 4 rows (common.py:9)", "got 4 rows")):
        one["tasks"][0]["parts"][0] |= {"status": "failed", "message": text}
    found = failures(load_class(write_results(tmp_path / "out", students)))
    assert [(one.tasks, one.students) for one in found] == [(("1.1",), (0, 1, 2))]


def test_attention_names_what_a_person_should_see(tmp_path):
    results = load_class(write_results(tmp_path / "out", big_class()))
    kinds = {one["id"]: [kind for kind, _ in why] for one, why in zip(results.students, attention(results)) if why}
    assert kinds == {
        EVIL_NAME: ["flag"],
        FORMULA: ["late"],
        "weakly-isolated": ["isolation"],
        "broken-zip": ["refused"],
        "slow": ["limit"],
        "borrowed": ["forbidden"],
    }


def test_code_and_copies_are_shown_with_the_submissions(tmp_path, capsys):
    students = [student(name, submission_sha256="") for name in ("ann", "ben", "cat", "dan")]
    folder = write_results(tmp_path / "out", [*students, student("eve")])
    (tmp_path / "class" / "eve").mkdir(parents=True)  # not what was graded: the hash in the results is another one
    (tmp_path / "class" / "eve" / "common.py").write_text("replaced = True\n")
    for name, source in (("ann", "solutions"), ("ben", "solutions"), ("cat", "assignment"), ("dan", "assignment")):
        (tmp_path / "class" / name).mkdir(parents=True)
        for file in FILES:
            text = (ROOT / source / file).read_text()
            (tmp_path / "class" / name / file).write_text(text + "\n" * (name == "ben"))
    assert main(["report", str(folder), "--submissions", str(tmp_path / "class")]) == 0
    page = (folder / "report.html").read_text()
    assert "the same code as ben" in page
    assert "the same code as dan" not in page  # the skeleton is everybody's
    assert page.count("common.py: what differs from the skeleton") == 2
    assert "replaced = True" not in page
    assert "eve: handed in anew since it was graded" in page
    assert "note: eve: handed in anew" in capsys.readouterr().out


@pytest.mark.parametrize("name", BROKEN)
def test_broken_results_are_refused_in_one_line_and_nothing_is_written(name, tmp_path, capsys):
    text, reason = BROKEN[name]
    folder = write_results(tmp_path / "out", [student("b"), student("c")])
    (folder / "results" / "broken.json").write_text(text)
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", str(folder)]) == 2
    message = capsys.readouterr().err
    assert reason in message
    assert "broken.json" in message
    assert message.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@contextmanager
def half_written(out):
    (out / "results" / ".c.json.part").write_text('{"id": "c"')
    yield


@contextmanager
def without_summary(out):
    (out / "summary.json").unlink()
    yield


@contextmanager
def not_complete(out):
    (out / "summary.json").write_text('{"complete": false, "graded": 1, "submissions": 3}')
    yield


@contextmanager
def one_more(out):
    (out / "results" / "c.json").write_text(json.dumps(student("c")))
    yield


@contextmanager
def at_work(out):
    with ResultStore(out, TABLE, Options()).opened(resume=True):
        yield


# What may have become of a class -> what is said about it.
INCOMPLETE = {
    half_written: "a run was stopped while it wrote there; go on with: kit grade-class CLASS --out out --resume",
    without_summary: "there is no summary.json, so a run was stopped; go on with: kit grade-class CLASS --out out",
    not_complete: "only 1 of 3 submissions have results; go on with: kit grade-class CLASS --out out --resume",
    one_more: "summary.json counts 1 results and 2 are there; go on with: kit grade-class CLASS --out out --resume",
    at_work: "a run is writing there; wait until it ends",
}


@pytest.mark.parametrize("state", INCOMPLETE)
def test_class_that_is_not_whole_gives_no_grades_and_a_page_that_says_so(state, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out, reason = write_results(tmp_path / "out", [student("b")]), INCOMPLETE[state]
    assert main(["report", "out"]) == 0
    assert "Not the whole class" not in (out / "report.html").read_text()
    assert "warning" not in capsys.readouterr().out
    with state(out):
        assert main(["gradebook", "out", "--out", "x.csv"]) == 2
        refusal = capsys.readouterr().err
        assert reason in refusal
        assert refusal.endswith("; for the grades that are there, add --partial\n")
        assert not (tmp_path / "x.csv").exists()
        assert main(["report", "out"]) == 0
        assert f"warning: not the whole class: {reason}" in capsys.readouterr().out
        assert f"Not the whole class:</b> {reason}" in (out / "report.html").read_text()
        assert main(["diff", "out", "out"]) == 0
        assert f"warning: out is not the whole class: {reason}" in capsys.readouterr().out
        assert main(["gradebook", "out", "--out", "x.csv", "--partial"]) == 0
        assert f"note: not the whole class: {reason}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere"], "no such folder"),
        (["empty"], "holds no results"),
        (["out", "--out", "nowhere/x.html"], "does not exist"),
        (["out", "--out", "out/results/000.json"], "000.json: exists and is no report page of the kit"),
        (["out", "--out", "empty"], "empty: exists and is no report page of the kit"),
        (["out", "--out", "home.html"], "home.html: exists and is no report page of the kit"),
        (["out", "--pages", "site"], "site/000.html: exists and is no results page of the kit"),
        (["out", "--pages", "home.html"], "home.html: cannot be made"),
        (["out", "--out", "000.html", "--pages", "."], "000.html: the page of 'b' would replace the report"),
        (["out", "--submissions", "nowhere"], "no such folder"),
        (["out", "--submissions", "others"], "holds no submission of the students"),
    ],
)
def test_bad_arguments_are_answered_in_one_line(arguments, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "out", [student("b")])
    (tmp_path / "empty").mkdir()
    (tmp_path / "others" / "x").mkdir(parents=True)
    (tmp_path / "site").mkdir()
    for name in ("home.html", "site/000.html"):
        (tmp_path / name).write_text("<!doctype html>\n<title>My own page</title>\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["report", *arguments]) == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    message = capsys.readouterr().err
    assert reason in message
    assert message.count("\n") == 1


def test_only_pages_of_the_same_kind_are_replaced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "out", [student("b")])
    for _ in range(2):
        assert main(["report", "out", "--pages", "pages"]) == 0
    (tmp_path / "pages" / "000.html").write_text((tmp_path / "out" / "report.html").read_text())
    assert main(["report", "out", "--pages", "pages"]) == 2
    assert main(["report", "out", "--out", "pages/000.html"]) == 0
    capsys.readouterr()
