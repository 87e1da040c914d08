"""What students receive: everything that they need, nothing that gives an answer away."""

import ast
import hashlib
import re
import subprocess
import sys
import zipfile

import pytest

from autograder.errors import KitError
from autograder.tasks import FILES, ROOT, load_tasks
from tools import release
from tools.cli import main

VERSION = "fcos-course-kit 0\ncommit 0\n"
# What is for staff; only a line inside a function of the grader may name it, for it is there on their machines alone.
STAFF = ("autograder.oracle", "autograder.held_out", "autograder.measure")


@pytest.fixture(scope="module")
def student_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("release")
    release.write_zip(out / "kit.zip", release.student_files(), "fcos")
    with zipfile.ZipFile(out / "kit.zip") as archive:
        archive.extractall(out)
    return out / "fcos"


IMPORTED_AS = {"pillow": "PIL", "jinja2": "jinja2", "pyyaml": "yaml"}
PROGRAMS = {"jupyter", "jupyterlab"}  # what students start, and no file imports


def test_requirements_say_which_libraries_no_students_file_imports(student_folder):
    imported = set()
    for path in student_folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    said = {}
    for line in (student_folder / "requirements.txt").read_text().splitlines():
        pin, _, reason = line.partition("#")
        name = pin.partition("==")[0].strip().lower()
        if name and name not in PROGRAMS:  # a second pin, for another Python, needs no second reason
            said[IMPORTED_AS.get(name, name)] = said.get(IMPORTED_AS.get(name, name)) or reason.strip()
    assert all(said.values())
    staff = {name for name, reason in said.items() if reason.startswith("instructors")}
    assert (staff & imported, set(said) - staff - imported) == (set(), set())


def test_data_page_tells_students_what_they_have(student_folder):
    import helpers

    text = (student_folder / "data" / "README.md").read_text()
    functions = set(re.findall(r"`helpers\.(\w+)\(", text))
    assert functions == {"make_sample", "download_voc2007"} <= set(helpers.__all__)
    for line in text.splitlines():
        if "`kit " in line:  # which no student has
            assert "helpers." in line or "instructors" in line


@pytest.fixture
def any_tree(monkeypatch):
    """Tests run on a checkout with changes in it."""
    monkeypatch.setattr(release, "describe_version", lambda root, dirty: VERSION)


def git(folder, *arguments):
    subprocess.run(["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True)


def test_release_leaves_an_autograder_out_that_needs_held_out_images(tmp_path, any_tree, monkeypatch, capsys):
    monkeypatch.setattr(release, "load_tasks", lambda: load_tasks(given={"5.1": False}))
    monkeypatch.setattr(release, "student_files", lambda: {"LICENSE": b"MIT"})
    monkeypatch.setattr("tools.nbgrader.course_files", lambda table: {"nbgrader_config.py": b"pass"})
    assert main(["release", "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        release.STUDENT_ZIP,
        release.NBGRADER_ZIP,
        "SHA256SUMS",
        "VERSION",
    }
    assert "fcos-gradescope.zip needs held-out images: make it with kit gradescope --weights" in capsys.readouterr().out


def test_release_twice_is_the_same_bytes(tmp_path, any_tree, capsys):
    for name in ("a", "b"):
        assert main(["release", "--out", str(tmp_path / name)]) == 0
        assert f"wrote {tmp_path / name / release.STUDENT_ZIP}" in capsys.readouterr().out
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("a", "b"))
    assert first == second
    zips = {name: first.pop(name) for name in (release.STUDENT_ZIP, release.NBGRADER_ZIP, release.GRADESCOPE_ZIP)}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in zips.items())
    assert first == {"SHA256SUMS": sums.encode(), "VERSION": VERSION.encode()}


def test_checkout_has_the_same_bytes_where_git_writes_line_ends_of_windows(tmp_path):
    (reference,) = sorted((ROOT / "autograder" / "reference" / "public").glob("*.safetensors"))[:1]
    contents = {path.name: path.read_bytes() for path in (ROOT / "tools" / "handed_out.txt", reference)}
    origin, checkout = tmp_path / "origin", tmp_path / "checkout"
    origin.mkdir()
    for name, content in {**contents, ".gitattributes": (ROOT / ".gitattributes").read_bytes()}.items():
        (origin / name).write_bytes(content)
    git(origin, "init", "--quiet")
    git(origin, "add", ".")
    git(origin, "commit", "--quiet", "--message", "first")
    git(tmp_path, "clone", "--quiet", "--config", "core.autocrlf=true", str(origin), str(checkout))
    assert {name: (checkout / name).read_bytes() for name in contents} == contents


def test_zip_depends_on_names_and_contents_alone(tmp_path):
    files = {"b.py": b"2", "a/c.py": b"1"}
    release.write_zip(tmp_path / "a.zip", files, "fcos")
    release.write_zip(tmp_path / "b.zip", dict(reversed(files.items())), "fcos")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_version_names_the_commit_and_changes_are_refused(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "kit"\nversion = "1.2"\n')
    with pytest.raises(KitError, match="not a git repository with a commit; add --dirty"):
        release.describe_version(tmp_path)
    assert release.describe_version(tmp_path, dirty=True) == "kit 1.2\ncommit unknown\n"
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first", "--date", "2026-02-01T00:00:00Z")
    clean = release.describe_version(tmp_path)
    commit = subprocess.run(["git", "-C", tmp_path, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert clean.startswith(f"kit 1.2\ncommit {commit} of ")
    assert release.describe_version(tmp_path, dirty=True) == clean
    git(tmp_path, "config", "status.showUntrackedFiles", "no")  # as some people have it
    (tmp_path / "new.py").touch()
    with pytest.raises(KitError, match=r"changes that are in no commit: new.py; commit them, or add --dirty"):
        release.describe_version(tmp_path)
    assert release.describe_version(tmp_path, dirty=True) == clean[:-1] + ", with changes that are in no commit\n"


def test_leak_stops_the_release_and_nothing_is_overwritten(tmp_path, any_tree, monkeypatch, capsys):
    earlier = {release.STUDENT_ZIP: "1", "SHA256SUMS": "2", "VERSION": "3"}
    for name, text in earlier.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(release, "STUDENT_FILES", [*release.STUDENT_FILES, ("solutions", "common.py", "helpers")])
    assert main(["release", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "kit release: fcos-assignment.zip would give away: fcos-assignment/helpers/common.py: is not"
    )
    assert "; fcos-assignment/helpers/common.py: solution of task" in error
    assert error.count("\n") == 1
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == earlier


@pytest.mark.parametrize(("function", "name"), [("student_files", "helpers/new.py"), ("course_files", "b.py")])
def test_file_that_is_not_on_the_list_stops_the_release(function, name, tmp_path, any_tree, monkeypatch, capsys):
    """Whatever wrote it there: the list knows nothing of patterns."""
    files = {"student_files": {"LICENSE": b"MIT"}, "course_files": {"nbgrader_config.py": b"pass"}}
    files[function][name] = b"harmless = 1"
    monkeypatch.setattr(release, "student_files", lambda: files["student_files"])
    monkeypatch.setattr("tools.nbgrader.course_files", lambda table: files["course_files"])
    assert main(["release", "--out", str(tmp_path)]) == 2
    assert f"/{name}: is not on the list of what students receive, tools/handed_out.txt" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_list_of_what_students_receive_is_sorted_and_true():
    listed = release.HANDED_OUT.read_text().splitlines()
    assert listed == sorted(set(listed))
    assert set(listed) == set(release.student_files())


@pytest.mark.parametrize("name", ["VERSION", release.NBGRADER_ZIP, release.GRADESCOPE_ZIP])
def test_other_files_are_not_overwritten(name, tmp_path, any_tree, capsys):
    (tmp_path / name).write_text("of something else")
    assert main(["release", "--out", str(tmp_path)]) == 2
    assert f"{name}: exists, and not from a release" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["of something else"]


def test_folder_that_cannot_be_written_is_named(tmp_path, any_tree, capsys):
    (tmp_path / "file").touch()
    assert main(["release", "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith(f"kit release: {tmp_path / 'file'}: cannot be written")


def test_release_holds_what_students_need_and_nothing_hidden(student_folder):
    names = {path.relative_to(student_folder).as_posix() for path in student_folder.rglob("*") if path.is_file()}
    assert {*FILES, "one_stage_detector.ipynb", "autograder/tasks.toml", "helpers/dataset.py"} <= names
    assert not [name for name in names if "hidden" in name or "oracle" in name or "solutions" in name]
    assert not {f"autograder/{name}.py" for name in ("batch", "graders", "summary", "identity", "report")} & names


def test_every_module_that_is_imported_there_is_there(student_folder):
    """Also inside functions: a module that only staff has would be missed at midnight."""
    checked = 0
    for path in student_folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(("autograder", "helpers")):
                continue
            for module in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                here, there = (root / module.replace(".", "/") for root in (ROOT, student_folder))
                if (here.with_suffix(".py").is_file() or here.is_dir()) and not module.startswith(STAFF):
                    checked += 1
                    shipped = there.with_suffix(".py").is_file() or there.is_dir()
                    assert shipped, f"{path}:{node.lineno} imports {module}"
    assert checked > 50


def test_check_works_in_the_student_folder_alone(student_folder):
    """Without the oracle: the skeleton is told what is missing, in a process that sees nothing of the repository."""
    code = "from autograder import check; import autograder; print(autograder.__file__); print(check('1.2', '2.2'))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=student_folder, capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(student_folder)},
    )  # fmt: skip
    assert str(student_folder) in run.stdout
    assert "not implemented yet (common.py:" in " ".join(run.stdout.split())  # lines are wrapped
    assert "0 of 6 points" in run.stdout


def test_release_names_an_entry_that_matches_nothing(monkeypatch):
    monkeypatch.setattr(release, "STUDENT_FILES", [("helpers", "*.nothing", "")])
    with pytest.raises(KitError, match=r"lists helpers/\*.nothing"):
        release.student_files()
