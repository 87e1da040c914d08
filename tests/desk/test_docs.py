"""docs/instructor.md, read literally: its files are written, its commands run in order, their output compared.

Commands without a `$` need what a test has not got; that the kit knows them is all that is looked at here.
"""

import re
import shlex
import subprocess

import pytest

from autograder.gradebook.rules import load_rules
from autograder.isolation import choose_level
from autograder.tasks import ROOT
from tools.cli import COMMANDS, main

TEXT = (ROOT / "docs" / "instructor.md").read_text(encoding="utf-8")
_FILE = re.compile(r"^`([\w.-]+)`:\n\n```(?:toml|csv)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CHECKED = re.compile(r"^\w+ +([\w ]+):", re.MULTILINE)
_SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_TOML = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands():
    """[(command, what it prints)] in the order of the page."""
    blocks = "".join(_CONSOLE.findall(TEXT))
    found = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", blocks, re.MULTILINE)
    assert "".join(f"$ {command}\n{output}" for command, output in found) == blocks
    return found


def run(command: str, capsys) -> str:
    """Run a command as a person would, `kit` in this process: it starts faster."""
    if not command.startswith("kit "):
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout
    capsys.readouterr()
    code = main(shlex.split(command)[1:])
    printed = capsys.readouterr()
    assert (code == 2) == printed.err.startswith("kit "), printed.err
    return printed.out + printed.err


def plain(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder as the page assumes it: solutions and skeletons beside, and the files that it shows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("tools.release.describe_version", lambda *_: "fcos-course-kit 0\ncommit 0\n")  # any checkout
    for name in ("solutions", "assignment"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name, content in _FILE.findall(TEXT):
        (tmp_path / name).write_text(content, encoding="utf-8")


@pytest.mark.timeout(900)
def test_every_command_of_the_page_prints_what_the_page_shows(desk, capsys):
    assert len(commands()) > 15
    exact = choose_level()[0] == "bubblewrap"  # elsewhere a warning stands in the output; the page shows it without
    for command, shown in commands():
        printed, shown = plain(run(command, capsys)), plain(shown)
        if command.startswith("kit doctor"):  # what is there differs; what is looked for does not
            assert _CHECKED.findall(printed) == _CHECKED.findall(shown)
        elif exact:
            pattern = ".*?".join(map(re.escape, shown.split("…")))
            assert re.fullmatch(pattern, printed, re.DOTALL), f"$ {command}\n{printed}\n--- the page shows\n{shown}"


def test_commands_that_are_not_run_are_known(monkeypatch):
    calls = []
    lines = [
        part.split("#")[0].strip() for line in "".join(_SHELL.findall(TEXT)).splitlines() for part in line.split("&&")
    ]
    programs = {"kit": [], "make": [], "nbgrader": [], "git": [], "cd": []}
    for line in filter(None, lines):
        programs[line.split()[0]].append(shlex.split(line)[1:])
    for words in programs["kit"]:
        monkeypatch.setattr(f"{COMMANDS[words[0]][0]}.run", calls.append)
        assert main(words) == 0, words
    assert len(calls) == len(programs["kit"]) > 1
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for (target,) in programs["make"])
    assert programs["make"]


def test_rules_of_the_page_are_rules(tmp_path):
    for number, text in enumerate(_TOML.findall(TEXT)):
        (tmp_path / f"{number}.toml").write_text(text, encoding="utf-8")
        assert load_rules(tmp_path / f"{number}.toml").overrides


def test_page_names_every_option_only_as_the_commands_have_it(capsys):
    """An option that a command of the page's prose no longer has would mislead."""
    for option in set(re.findall(r"`(--[a-z-]+)`", TEXT)):
        found = False
        for command in COMMANDS:
            with pytest.raises(SystemExit):
                main([command, "--help"])
            found |= option in capsys.readouterr().out
        assert found, option


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_page_names_only_commands_that_are_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^\$ |`|\.venv/bin/)kit ([a-z][a-z-]*)", text, re.MULTILINE))
    assert named <= set(COMMANDS), named - set(COMMANDS)
    assert named or page == "docs/student.md"
