"""`kit gradebook`: the rules, worked out by hand, and exports of Canvas and Moodle that keep every other byte."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import FORMULA, student, write_results

from autograder.errors import KitError
from autograder.gradebook.sheet import Sheet, csv_text
from tools.cli import main

CANVAS = (
    "Student,ID,SIS User ID,SIS Login ID,Section,Quiz (11),FCOS (12),FCOS bonus (13),Final Score\r\n"
    ",,,,,,Manual Posting,,\r\n"
    "    Points Possible,,,,,40.00,100.00,5.00,(read only)\r\n"
    '"Ångström, Åsa",101,s1,asa,"Sec ""A"", 1",40,,1,50\r\n'
    '"Bell, Ben",102,s2,ben,Sec 2,,12.5,,\r\n'
    '"Cho, Cat",103,s3,cat,Sec 2,3,"80.00",,\r\n'
    '"Ex, Eve",105,s5,eve,Sec 2,3,EX,,\r\n'
    '"Nobody, Nick",109,s9,nick,Sec 2,3,77,,\r\n'
    '"Student, Test",999,,test,Sec 2,,,,\r\n'
)
MOODLE = (
    "\ufeffIdentifier,Full name,Email address,Status,Grade,Maximum Grade,Grade can be changed,Feedback comments\n"
    'Participant 101,"Åsa Ångström",asa@x.edu,Submitted,,"100,00",Yes,"two\nlines, ""quoted"""\n'
    'Participant 102,Ben,ben@x.edu,Submitted,"10,00","100,00",Yes,\n'
    'Participant 103,Cat,cat@x.edu,Submitted,,"100,00",No,\n'
)
RULES = """
[late]
due = 2026-03-01T23:59:00-05:00
grace_minutes = 10
percent_per_day = 10
max_percent = 25
"""
DUE = "2026-03-01 23:59:00 -0500"

# Time of submission -> (days late, penalty in percent), with the rules above.
LATENESS = {
    "2026-03-01 12:00:00 -0500": (0, 0),
    DUE: (0, 0),
    "2026-03-02 00:09:00 -0500": (0, 0),  # the grace ends at 00:09
    "2026-03-02 00:09:01 -0500": (1, 10),
    "2026-03-02 23:59:00 -0500": (1, 10),  # one day to the second
    "2026-03-02 23:59:01 -0500": (2, 20),
    "2026-03-03 04:59:01 +0000": (2, 20),  # the same moment, told elsewhere
    "2026-04-01 00:00:00 -0500": (31, 25),  # never more than the maximum
}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with results of a class: s1 has 100 points, the others what their verdicts give."""
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "out", [student("s1"), student("s2", 0.5), student("s3", 0.6), student("s5", 0.9)])
    (tmp_path / "canvas.csv").write_bytes(CANVAS.encode())
    (tmp_path / "rules.toml").write_text(RULES)
    (tmp_path / "times.csv").write_text(f"submission,submitted\ns1,{DUE}\ns2,{DUE}\ns3,{DUE}\ns5,{DUE}\n")
    return tmp_path


def kit(line: str) -> int:
    return main(["gradebook", *line.split()])


def table(path):
    return {row["student"]: row for row in csv.DictReader(io.StringIO(path.read_text()))}


def total(desk, name):
    files = [json.loads(path.read_text()) for path in (desk / "out" / "results").glob("*.json")]
    return next(one["total"] for one in files if one["id"] == name)


def test_canvas_gets_one_column_and_keeps_every_other_byte(desk, capsys):
    assert kit("out --canvas canvas.csv --column FCOS --out filled.csv") == 0
    # s9 handed in nothing and keeps what is there, s5 is excused; quotes stay where they were.
    expected = CANVAS.replace('1",40,,1,50', '1",40,100,1,50').replace("12.5", str(total(desk, "s2")))
    expected = expected.replace('"80.00"', f'"{total(desk, "s3")}"')
    assert (desk / "filled.csv").read_bytes() == expected.encode()
    assert (desk / "canvas.csv").read_bytes() == CANVAS.encode()
    said = capsys.readouterr().out
    assert "1 new, 2 changed" in said
    assert f"changed: s2: 12.5 -> {total(desk, 's2')}" in said
    assert "left alone: s5" in said
    assert "in the gradebook, without a grade: s9" in said
    assert "Test" not in said


def test_student_who_does_not_have_the_assignment_is_left_alone(desk, capsys):
    (desk / "canvas.csv").write_bytes(CANVAS.replace(",12.5,", ",N/A,").encode())
    assert kit("out --canvas canvas.csv --column FCOS --out filled.csv") == 0
    assert b'"Bell, Ben",102,s2,ben,Sec 2,,N/A,,' in (desk / "filled.csv").read_bytes()
    assert "left alone: s2, s5" in capsys.readouterr().out


def test_commas_in_a_title_part_no_cells(desk):
    text = CANVAS.replace(",", ";").replace("Quiz (11)", '"1, 2, 3, 4, 5, 6, 7, 8, 9, 10 (11)"')
    (desk / "canvas.csv").write_bytes(text.encode())
    assert kit("out --canvas canvas.csv --column FCOS --out filled.csv") == 0
    assert b'1";40;100;1;50' in (desk / "filled.csv").read_bytes()


# What an export may look like instead: a change to the text above, and the column that students are found by.
EXPORTS = {
    "no manual posting": (",,,,,,Manual Posting,,\r\n", "", "SIS User ID"),
    "line ends of Unix": ("\r\n", "\n", "SIS User ID"),
    "no SIS User ID": ("SIS User ID,SIS Login ID", "Other,SIS User ID", None),
    "an integration id": ("Section,Quiz", "Integration ID,Quiz", "SIS User ID"),
    "the root account": ("SIS Login ID,Section", "Root Account,Section", "SIS User ID"),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_canvas_columns_are_found_by_their_titles(name, desk, capsys):
    old, new, by = EXPORTS[name]
    assert old in CANVAS
    (desk / "canvas.csv").write_bytes(CANVAS.replace(old, new).encode())
    code = kit("out --canvas canvas.csv --column FCOS --out filled.csv")
    assert code == (0 if by else 2)
    if by:
        assert f"matched by {by}" in capsys.readouterr().out
        before = (desk / "canvas.csv").read_bytes().decode().splitlines(keepends=True)
        after = (desk / "filled.csv").read_bytes().decode().splitlines(keepends=True)
        assert sum(one != other for one, other in zip(before, after, strict=True)) == 3


def test_grades_lie_beside_the_results_where_no_other_file_is_named(desk, capsys):
    assert kit("out") == 0
    assert capsys.readouterr().out.endswith("out/grades.csv\n")
    assert kit("out --canvas canvas.csv --column FCOS") == 0
    assert {path.name for path in (desk / "out").glob("*.csv")} >= {"grades.csv", "canvas.csv"}
    kept = (desk / "out" / "grades.csv").read_bytes()
    assert kit("out") == 2
    assert "exists; move it away" in capsys.readouterr().err
    assert (desk / "out" / "grades.csv").read_bytes() == kept


def test_students_with_a_grade_and_no_row_are_reported(desk, capsys):
    (desk / "canvas.csv").write_bytes(CANVAS.replace("s3", "s33").encode())
    assert kit("out --canvas canvas.csv --column FCOS --out filled.csv") == 0
    said = capsys.readouterr().out
    assert "with a grade, not in the gradebook: s3\n" in said
    assert "without a grade: s33, s9\n" in said


def test_points_are_scaled_only_on_request(desk, capsys):
    (desk / "canvas.csv").write_bytes(CANVAS.replace("100.00", "40.00").encode())
    assert kit("out --canvas canvas.csv --column FCOS --out filled.csv") == 2
    assert "40 points are possible there and 100 in the results" in capsys.readouterr().err
    assert kit("out --canvas canvas.csv --column FCOS --out filled.csv --scale") == 0
    assert '1",40,40,1,50' in (desk / "filled.csv").read_text()


# What of an export tells that fractions are written with a comma: a change to the export that is read below.
COMMAS = {
    "the maximum": ("100.00", "100,00"),
    "another maximum": ("40.00", "40,00"),
    "a grade": ("80.00", "80,00"),
}


@pytest.mark.parametrize("name", COMMAS)
def test_canvas_with_decimal_commas_gets_decimal_commas(name, desk, capsys):
    (desk / "rules.toml").write_text('[[override]]\nstudent = "s1"\npoints = 87.5\n')
    text = CANVAS.replace(",", ";").replace("Ångström; ", "Ångström, ").replace(*COMMAS[name])
    (desk / "canvas.csv").write_bytes(text.encode())
    assert kit("out --canvas canvas.csv --column FCOS --rules rules.toml --out filled.csv") == 0
    before, after = text.splitlines(), (desk / "filled.csv").read_text().splitlines()
    assert after[3] == before[3].replace(";40;;1;50", ";40;87,5;1;50")


def test_maximum_that_moodle_does_not_tell_is_noted_and_never_scaled_to(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "out", [student("101")])
    (tmp_path / "one.csv").write_text("ID number,Assignment: FCOS (Real)\n101,-\n")
    (tmp_path / "two.csv").write_text('Identifier,Grade,Maximum Grade\nParticipant 101,"7,5",-\n')
    note = "note: 1 rows do not tell their maximum grade; see that it is 100, as in the results\n"
    assert main(["gradebook", "out", "--moodle", "one.csv", "--column", "Assignment: FCOS (Real)"]) == 0
    assert note in capsys.readouterr().out
    assert (tmp_path / "out" / "moodle.csv").read_text().endswith("101,100\n")
    assert kit("out --moodle two.csv --out two-filled.csv") == 0
    assert note in capsys.readouterr().out
    assert kit("out --moodle two.csv --scale --out three.csv") == 2
    assert "'Maximum Grade' holds no number to scale to" in capsys.readouterr().err


# Titles of columns that are no points; in the export below all of them hold nothing, or a number.
NO_POINTS = ["ID number", "FCOS (Percentage)", "FCOS (Letter)", "Last modified (grade)", "Maximum Grade"]
NO_POINTS += ["Last downloaded from this course", "Feedback comments", "Email address", "Status"]


@pytest.mark.parametrize("column", NO_POINTS)
def test_column_of_moodle_that_holds_no_points_is_never_filled(column, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "out", [student("101")])
    numbers = {"ID number": "101", "Last downloaded from this course": "1772000000", "Maximum Grade": "100"}
    cells = [numbers.get(title, "") for title in NO_POINTS]
    (tmp_path / "moodle.csv").write_text(f"{','.join(NO_POINTS)}\n{','.join(cells)}\n")
    assert main(["gradebook", "out", "--moodle", "moodle.csv", "--column", column]) == 2
    assert f"column {column!r} holds no points" in capsys.readouterr().err


@pytest.mark.parametrize("scale", ["", "--scale"])
def test_results_without_points_to_be_had_fill_nothing(scale, desk, capsys):
    for path in (desk / "out" / "results").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"max_total": 0}))
    (desk / "canvas.csv").write_bytes(CANVAS.replace("100.00", "0").encode())
    assert kit(f"out --canvas canvas.csv --column FCOS --out filled.csv {scale}") == 2
    assert "canvas.csv: no points can be had in the results" in capsys.readouterr().err


def test_moodle_gets_grades_in_its_own_notation_and_keeps_every_other_byte(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "out", [student("101", total=87.5), student("102"), student("103")])
    results = json.loads((tmp_path / "out/results/000.json").read_text())
    results["tasks"][0]["points"] -= 12.5  # the sum of the tasks is what counts
    (tmp_path / "out/results/000.json").write_text(json.dumps(results))
    (tmp_path / "moodle.csv").write_bytes(MOODLE.encode())
    assert kit("out --moodle moodle.csv --out filled.csv") == 0
    expected = MOODLE.replace('Submitted,,"100,00",Yes', 'Submitted,"87,5","100,00",Yes').replace('"10,00"', '"100"')
    assert (tmp_path / "filled.csv").read_bytes() == expected.encode()
    assert "left alone: 103" in capsys.readouterr().out


@pytest.mark.parametrize("submitted", LATENESS)
def test_late_penalty_follows_from_the_time_of_submission(submitted, desk):
    days, percent = LATENESS[submitted]
    (desk / "times.csv").write_text(f"submission,submitted\ns1,{submitted}\ns2,{DUE}\ns3,{DUE}\n")
    assert kit("out --rules rules.toml --times times.csv --out grades.csv") == 0
    rows = table(desk / "grades.csv")
    assert (rows["s1"]["days_late"], rows["s1"]["penalty_percent"]) == (str(days), str(percent))
    assert rows["s1"]["points"] == str(100 - percent)
    assert rows["s5"]["remarks"] == "no time of submission: no late penalty"


def test_who_escapes_a_penalty_and_who_gets_nothing_is_told_also_when_an_export_is_filled(desk, capsys):
    for name, change in (("001", {"late": True}), ("002", {"seed": None, "notes": ["s3.zip: not an archive"]})):
        path = desk / "out" / "results" / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    (desk / "times.csv").write_text(f"submission,submitted\ns1,{DUE}\ns3,{DUE}\n")
    for options in ("--out own.csv", "--canvas canvas.csv --column FCOS --out filled.csv"):
        assert kit(f"out --rules rules.toml --times times.csv {options}") == 0
        said = capsys.readouterr().out
        assert "note: no time of submission, so no late penalty: s2 (marked late), s5\n" in said
        assert f"note: s3: {total(desk, 's3')} points, could not be taken in: s3.zip: not an archive\n" in said
    assert kit("out --out free.csv") == 0
    assert "no time of submission" not in capsys.readouterr().out


def test_extension_moves_the_due_time_of_one_student(desk):
    (desk / "times.csv").write_text(f"submission,submitted\ns1,2026-03-03 12:00:00 -0500\ns2,{DUE}\n")
    more = '[[extension]]\nstudent = "s1"\ndue = 2026-03-03T12:00:00-05:00\n'
    (desk / "rules.toml").write_text(RULES + more)
    assert kit("out --rules rules.toml --times times.csv --out grades.csv") == 0
    assert table(desk / "grades.csv")["s1"]["points"] == "100"


def test_overrides_stay_when_the_class_is_graded_again(desk, capsys):
    rules = """
[[override]]
student = "s1"
points = 66.5
was = 100
reason = "=told by mail"
[[override]]
student = "s2"
task = "1.1"
points = 12
"""
    (desk / "rules.toml").write_text(rules)
    assert kit("out --rules rules.toml --out first.csv") == 0
    first = table(desk / "first.csv")
    assert (first["s1"]["points"], first["s1"]["override"]) == ("66.5", "'=told by mail")
    assert (first["s2"]["1.1"], first["s2"]["override"]) == ("12", "task 1.1: by hand")
    assert "look again" not in capsys.readouterr().out
    write_results(desk / "again", [student("s1", 0.5, run=1), student("s2", 0.1, run=1)])
    assert kit("again --rules rules.toml --out second.csv") == 0
    second = table(desk / "second.csv")
    assert (second["s1"]["points"], second["s2"]["1.1"]) == ("66.5", "12")
    assert "s1: overridden with 66.5 when it was 100; it would be" in capsys.readouterr().out
    assert (desk / "rules.toml").read_text() == rules


def test_each_member_of_a_group_gets_the_grade_and_conflicts_are_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "out", [student("ann+ben", members=["ann", "ben"]), student("7"), student("8", 0.4)])
    (tmp_path / "groups.csv").write_text("Submission,Student\n7,cat\n7,dan\n8,dan\n8,eve\n")
    assert kit("out --groups groups.csv --out grades.csv") == 1
    rows = table(tmp_path / "grades.csv")
    assert {name: rows[name]["points"] for name in ("ann", "ben", "cat", "dan")} == {
        "ann": "100", "ben": "100", "cat": "100", "dan": "",
    }  # fmt: skip
    assert "no grade for dan: 7 gives 100, 8 gives" in capsys.readouterr().out
    (tmp_path / "rules.toml").write_text('[[override]]\nstudent = "dan"\npoints = 90\n')
    assert kit("out --groups groups.csv --rules rules.toml --out decided.csv") == 0
    assert table(tmp_path / "decided.csv")["dan"]["points"] == "90"


def test_no_student_is_made_of_a_name_and_nobody_without_an_id_gets_points(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    four = ["a.a", "b.b", "c.c", "d.d"]
    older = student("old+style")
    assert "members" not in older
    students = [student("a.a+b.b+c.-1234abcd", members=four), student("ann+cs@example.edu"), student("w++v"), older]
    write_results(tmp_path / "out", students)
    assert kit("out --out grades.csv") == 0
    assert set(table(tmp_path / "grades.csv")) == {*four, "ann+cs@example.edu", "w++v", "old+style"}
    (tmp_path / "canvas.csv").write_bytes(CANVAS.replace("s1", "a.a").replace("s2", "").encode())
    assert kit("out --canvas canvas.csv --column FCOS --out filled.csv") == 0
    said = capsys.readouterr().out
    assert "1 new, 0 changed" in said
    assert "in the gradebook, without a grade: Bell, Ben, s3" in said


@pytest.mark.parametrize("change", [{"id": ""}, {"id": " "}, {"members": ["ann", ""]}, {"members": "ann"}])
def test_results_of_nobody_are_refused(change, desk, capsys):
    (desk / "out" / "results" / "000.json").rename(desk / "out" / "results" / "nobody.json")
    (desk / "out" / "results" / "nobody.json").write_text(json.dumps(student("x") | change))
    assert kit("out --out grades.csv") == 2
    assert "nobody.json: not a result of kit grade-class (its" in capsys.readouterr().err


def test_gradescope_metadata_gives_groups_and_times(desk):
    write_results(desk / "scope", [student("12"), student("13")])
    (desk / "metadata.yml").write_text(
        "submission_12:\n  :submitters:\n  - :name: Ann\n    :sid: a1\n    :email: a@x.edu\n"
        "  - :name: Ben\n    :sid: b1\n    :email: b@x.edu\n  :created_at: 2026-03-02 12:00:00.5 -05:00\n"
        "submission_13:\n  :submitters:\n  - :name: Cat\n    :email: c@x.edu\n"
        "  :created_at: 2026-03-01 12:00:00 -05:00\n"
    )
    assert kit("scope --metadata metadata.yml --rules rules.toml --out grades.csv") == 0
    points = {name: row["points"] for name, row in table(desk / "grades.csv").items()}
    assert points == {"a1": "90", "b1": "90", "c@x.edu": "100"}
    users = [{"email": "a@x.edu", "id": 1, "name": "A"}]
    one = {"id": 12, "created_at": "2026-03-02T12:00:00.000000-05:00", "users": users}
    (desk / "metadata.json").write_text(json.dumps(one))
    assert kit("scope --metadata metadata.json --rules rules.toml --out one.csv") == 0
    assert table(desk / "one.csv")["a@x.edu"]["points"] == "90"


def test_gradebook_of_half_a_class_says_so(desk, capsys):
    reason = {"id": "s7", "reason": "the grader ended"}
    summary = {"complete": False, "graded": 4, "submissions": 6, "not_graded": [reason]}
    (desk / "out" / "summary.json").write_text(json.dumps(summary))
    assert kit("out --out grades.csv") == 2
    assert not (desk / "grades.csv").exists()
    assert kit("out --out grades.csv --partial") == 0
    said = capsys.readouterr().out
    assert "note: not the whole class: only 4 of 6 submissions have results; go on with: kit grade-class" in said
    assert "note: s7: handed in, not graded (the grader ended)" in said


def test_own_csv_neutralises_formulas_and_keeps_commas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "out", [student(FORMULA), student("a, b"), student("@x"), student("\t=1")])
    assert kit("out --out grades.csv") == 0
    assert set(table(tmp_path / "grades.csv")) == {f"'{FORMULA}", "a, b", "'@x", "'\t=1"}


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=6)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(cells, min_size=2, max_size=4), min_size=2, max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_sheet_reads_what_a_csv_writer_writes_and_gives_every_byte_back(rows, end):
    rows = [["Student", "ID"], *rows]
    text = io.StringIO()
    csv.writer(text, lineterminator=end).writerows(rows)
    sheet = Sheet(Path("x.csv"), text.getvalue())
    assert sheet.text() == text.getvalue()
    assert [[cell.value for cell in row] for row in sheet.rows] == [row for row in rows[1:] if any(row)]


@settings(max_examples=150, deadline=None)
@given(st.text('a",;\r\n \t=', max_size=40))
def test_sheet_gives_every_byte_back_or_says_what_is_wrong(text):
    try:
        sheet = Sheet(Path("x.csv"), text)
    except KitError:  # and no other exception
        return
    assert sheet.text() == text


def test_csv_text_leaves_numbers_alone():
    assert csv_text([["-1", -1, "a"]]) == "'-1,-1,a\n"


# Command line -> what its one line of answer says; files as in `desk`, and those of FILES.
FILES = {
    "broken.toml": "[late",
    "naive.toml": "[late]\ndue = 2026-03-01T23:59:00\n",
    "typo.toml": RULES + "percent_per_hour = 1\n",
    "text.toml": RULES.replace("= 10\nmax", '= "10"\nmax'),
    "stranger.toml": '[[override]]\nstudent = "s77"\npoints = 3\n',
    "extension.toml": RULES + '[[extension]]\nstudent = "S1"\ndue = 2026-03-03T12:00:00-05:00\n',
    "deep.toml": "late = " + "[" * 5000,
    "deep.json": "[" * 50_000,
    "deep.yml": "[" * 5000,
    "immense.toml": '[[override]]\nstudent = "s1"\npoints = 1e30\n',
    "infinite.toml": '[[override]]\nstudent = "s1"\npoints = inf\n',
    "grace.toml": RULES.replace("grace_minutes = 10", "grace_minutes = 1e15"),
    "more_than_all.toml": RULES.replace("max_percent = 25", "max_percent = 101"),
    "task.toml": '[[override]]\nstudent = "s1"\npoints = 3\ntask = "9.9"\n',
    "twice.toml": '[[override]]\nstudent = "s1"\npoints = 3\n' * 2,
    "negative.toml": '[[override]]\nstudent = "s1"\npoints = -3\n',
    "two_times.csv": "submission,submitted\ns1,2026-03-01 10:00:00 +0000\ns1,2026-03-01 11:00:00 +0000\n",
    "title.csv": '"submission,submitted\ns1,2026-03-01',
    "naive.csv": "submission,submitted\ns1,2026-03-01 10:00:00\n",
    "columns.csv": "name,when\ns1,now\n",
    "quote.csv": 'Student,ID\n"Bell,3\n',
    "nobody.csv": CANVAS.replace("s1", "t1").replace("s2", "t2").replace("s3", "t3").replace("s5", "t5"),
    "double.csv": CANVAS.replace("s2", "s1"),
    "no_points.csv": CANVAS.replace("    Points Possible", "Something"),
    "zero.csv": CANVAS.replace("100.00", "0.00"),
    "zero_moodle.csv": MOODLE.replace("100,00", "0,00").replace("101", "s1"),
    "short.csv": CANVAS.replace('ben,Sec 2,,12.5,,', "ben,Sec 2"),
    "latin.csv": "Student,ID\nÅsa,3\n".encode("latin-1"),
    "empty.csv": "",
}  # fmt: skip
BAD = {
    "nowhere --out x.csv": "nowhere: no such folder",
    "out --out out": "out: exists",
    "out --out canvas.csv": "canvas.csv: exists",
    "out --out nowhere/x.csv": "does not exist",
    "out --out x.csv --column FCOS": "go with --canvas or --moodle",
    "out --out x.csv --rules nowhere.toml": "nowhere.toml: cannot be read",
    "out --out x.csv --rules broken.toml": "broken.toml: not TOML",
    "out --out x.csv --rules naive.toml": "a time with an offset is needed",
    "out --out x.csv --rules typo.toml --times times.csv": "no key 'percent_per_hour'",
    "out --out x.csv --rules text.toml --times times.csv": "a number is needed",
    "out --out x.csv --rules rules.toml": "needs the times of the submissions",
    "out --out x.csv --rules stranger.toml": "override of 's77': no such student",
    "out --out x.csv --rules extension.toml --times times.csv": "extension of 'S1': no such student in out",
    "out --out x.csv --rules deep.toml": "deep.toml: not TOML",
    "out --out x.csv --metadata deep.json": "deep.json: not Gradescope's metadata",
    "out --out x.csv --metadata deep.yml": "deep.yml: not Gradescope's metadata",
    "out --out x.csv --rules immense.toml": "[override] points = 1e+30: at least 0 and at most 1000000",
    "out --out x.csv --rules infinite.toml": "[override] points = inf: at least 0 and at most 1000000",
    "out --out x.csv --rules grace.toml --times times.csv": "[late] grace_minutes = 1000000000000000.0: at least 0",
    "out --out x.csv --rules more_than_all.toml": "[late] max_percent = 101: at least 0 and at most 100",
    "out --out x.csv --rules task.toml": "no task '9.9'",
    "out --out x.csv --rules twice.toml": "two overrides of the grade for student 's1'",
    "out --out x.csv --rules negative.toml": "points = -3: at least 0",
    "out --out x.csv --times two_times.csv": "two_times.csv: s1 was handed in at two times",
    "out --out x.csv --times title.csv": "title.csv",
    "out --out x.csv --times nowhere.csv": "nowhere.csv: cannot be read",
    "out --out x.csv --times naive.csv": "a time with an offset is needed",
    "out --out x.csv --times columns.csv": "no column 'submission'",
    "out --out x.csv --groups columns.csv": "no column 'submission'",
    "out --out x.csv --metadata rules.toml": "not Gradescope's metadata",
    "out --out x.csv --metadata nowhere.yml": "nowhere.yml: cannot be read",
    "out --out x.csv --canvas nowhere.csv --column FCOS": "nowhere.csv: cannot be read",
    "out --out x.csv --canvas canvas.csv": "name the column to fill with --column; there are: Quiz (11), FCOS (12)",
    "out --out x.csv --canvas canvas.csv --column Fcos": "no assignment is called 'Fcos'",
    "out --out x.csv --canvas canvas.csv --column Section": "no assignment is called 'Section'",
    "out --out x.csv --canvas canvas.csv --column FCOS --by Nothing": "no column is titled 'Nothing'",
    "out --out x.csv --canvas columns.csv --column FCOS": "no column is titled 'Student'",
    "out --out x.csv --canvas quote.csv --column FCOS": "quote.csv:2: a quote that is not closed",
    "out --out x.csv --canvas nobody.csv --column FCOS": "is a student of the results",
    "out --out x.csv --canvas double.csv --column FCOS": "s1 twice in column 'SIS User ID'",
    "out --out x.csv --canvas no_points.csv --column FCOS": "no row 'Points Possible'",
    "out --out x.csv --canvas zero.csv --column FCOS --scale": "zero.csv: 0 points are possible there",
    "out --out x.csv --moodle zero_moodle.csv --scale": "zero_moodle.csv: 0 points are possible there",
    "out --out x.csv --canvas short.csv --column FCOS": "ends before column 'FCOS (12)'",
    "out --out x.csv --canvas latin.csv --column FCOS": "not text in UTF-8",
    "out --out x.csv --canvas empty.csv --column FCOS": "empty",
    "out --out x.csv --moodle canvas.csv": "no column is titled 'Grade'",
    "out --out x.csv --moodle canvas.csv --column Section --by ID": "it is not a column of grades",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_answered_in_one_line_and_nothing_is_written(line, desk, capsys):
    for name, content in FILES.items():
        (desk / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = {path: path.read_bytes() for path in desk.rglob("*") if path.is_file()}
    assert kit(line) == 2
    message = capsys.readouterr().err
    assert BAD[line] in message
    assert message.count("\n") == 1
    assert {path: path.read_bytes() for path in desk.rglob("*") if path.is_file()} == before
