"""Which level is chosen, what is said when it is not the best, and what stands in the way of one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autograder import isolation, levels, mounts
from autograder.errors import KitError
from autograder.isolation import choose_level
from autograder.levels import remove_files_of
from autograder.sandbox import Worker
from autograder.tasks import ROOT

NOTHING = ("", "")


@pytest.fixture
def machine(monkeypatch):
    """Function (level=(why not, what it leaves open), ...): pretend that levels can or cannot be had."""

    def pretend(**answers):
        monkeypatch.setattr(isolation, "_probe", lambda name: answers.get(name, NOTHING))

    return pretend


def test_strongest_level_is_chosen(machine):
    machine()
    assert choose_level() == ("bubblewrap", "")


def test_weaker_level_comes_with_a_warning(machine):
    machine(bubblewrap=("not installed", ""))
    level, warning = choose_level()
    assert level == "uid"
    assert warning.startswith("bubblewrap cannot be had here: not installed; graded at uid: ")


def test_weakest_level_names_every_reason(machine):
    machine(bubblewrap=("not installed", ""), uid=("not root", ""))
    level, warning = choose_level()
    assert level == "process"
    assert "bubblewrap cannot be had here: not installed; uid cannot be had here: not root" in warning
    assert "can read the files of the user who grades, solutions included, and write as that user" in warning


def test_level_that_was_asked_for_is_an_error_when_it_cannot_be_had(machine):
    machine(bubblewrap=("not installed", ""))
    with pytest.raises(KitError, match="isolation bubblewrap cannot be had here: not installed"):
        choose_level("bubblewrap")


def test_level_that_was_asked_for_is_taken_without_a_warning(machine):
    machine()
    assert choose_level("process") == ("process", "")


def test_open_folders_are_a_warning_even_when_the_level_was_asked_for(machine):
    machine(uid=("", "every user can read solutions"))
    assert choose_level("uid") == ("uid", "every user can read solutions")


def test_unknown_level_is_refused():
    with pytest.raises(KitError, match="isolation 'docker': the levels are bubblewrap, uid, process"):
        choose_level("docker")
    with pytest.raises(KitError, match="isolation 'docker'"):
        Worker("docker")


def test_missing_bubblewrap_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "apt-get install bubblewrap" in levels.Bubblewrap(tmp_path).missing()


def test_refused_namespaces_are_a_reason(monkeypatch, tmp_path):
    """As in a container: bubblewrap is there, and the kernel says no."""
    refusing = tmp_path / "bin" / "bwrap"
    refusing.parent.mkdir()
    refusing.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{refusing.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(levels.Process, "environment", lambda self: {"PATH": f"{refusing.parent}:/usr/bin:/bin"})
    place = tmp_path / "place"
    place.mkdir()
    assert levels.Bubblewrap(place).missing() == "bwrap: No permissions to create new namespace"


def test_uid_needs_root(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "only root" in levels.OtherUser(tmp_path).missing()


def test_worker_that_cannot_start_says_why(monkeypatch):
    monkeypatch.setattr(
        levels.Process, "command", lambda self, arguments: [sys.executable, "-c", "raise OSError('no')"]
    )
    with Worker() as worker, pytest.raises(KitError, match="the worker did not start: OSError: no"):
        worker.run({"folder": "/", "inputs": {}})


def arguments(monkeypatch, **places):
    for name, value in places.items():
        monkeypatch.setattr(mounts, name, value)
    return mounts.mount_arguments("/host/submission")


def binds(found):
    return {found[i + 2]: found[i + 1] for i, word in enumerate(found) if word == "--ro-bind"}


def test_everything_is_bound_read_only(monkeypatch):
    found = arguments(monkeypatch)
    assert not {"--bind", "--dev-bind"} & set(found)
    assert binds(found)["/submission"] == "/host/submission"
    assert found[found.index("--remount-ro") :][-4:-2] == ["--remount-ro", "/"]


def test_virtual_environment_inside_the_repository_does_not_bring_the_repository(monkeypatch):
    found = binds(arguments(monkeypatch))
    around = [target for target, source in found.items() if ROOT.is_relative_to(source)]
    assert not around
    below = {target for target in found if Path(target).is_relative_to(ROOT)}
    assert all("site-packages" in target or "dist-packages" in target or "/bin/" in target for target in below)


def test_repository_below_a_bound_folder_is_covered(monkeypatch):
    found = arguments(monkeypatch, package_folders=lambda: [str(ROOT.parent)])
    covers = [found[i + 1] for i, word in enumerate(found) if word == "--tmpfs"]
    assert str(ROOT) in covers
    # The folder around it comes first: what is bound later lies on top.
    assert found.index(str(ROOT.parent)) < found.index(str(ROOT))


def test_kit_installed_beside_torch_is_covered_part_by_part(monkeypatch):
    found = arguments(monkeypatch, package_folders=lambda: [str(ROOT)])
    covers = {found[i + 1] for i, word in enumerate(found) if word == "--tmpfs"}
    assert {str(ROOT / name) for name in ("solutions", "autograder", "tests", "tools")} <= covers
    assert str(ROOT) not in covers


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_another_user_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "theirs" / "deep").mkdir(parents=True)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "kept").touch()
    (tmp_path / "-rf").touch()
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    for name in ("theirs", "-rf", "link"):
        os.lchown(tmp_path / name, 61184, 61184)
    remove_files_of(61184, [str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]
    assert (tmp_path / "ours" / "kept").exists()


@pytest.fixture
def stubborn(monkeypatch, tmp_path):
    """Function (ends when it is killed that often) -> a level `uid` without root, and the list of its kills."""

    def make(needed):
        monkeypatch.setattr(levels, "_unused_user", lambda: 61184)
        kills = []

        def kill(command, **_):
            kills.append(command)
            if len(kills) == 1:
                raise subprocess.TimeoutExpired(command, 30)

        monkeypatch.setattr(levels.subprocess, "run", kill)
        monkeypatch.setattr(levels, "remove_files_of", lambda *_: None)
        monkeypatch.setattr(levels, "_runs_as", lambda user: len(kills) < needed)
        return levels.OtherUser(tmp_path), kills

    return make


@pytest.mark.parametrize(("needed", "cleared", "tries"), [(1, True, 1), (3, True, 3), (99, False, 5)])
def test_processes_of_the_other_user_are_killed_until_none_is_left(stubborn, needed, cleared, tries):
    level, kills = stubborn(needed)
    assert (level.clear(), len(kills)) == (cleared, tries)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_process_of_another_user_is_seen_until_it_is_killed():
    user = levels._unused_user()
    process = subprocess.Popen(["sleep", "60"], user=user)
    try:
        assert levels._runs_as(user)
    finally:
        process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is there yet
    assert not levels._runs_as(user)
    process.wait()


def test_files_are_copied_readable_for_everybody_and_links_are_not(tmp_path):
    source = tmp_path / "source"
    (source / "package").mkdir(parents=True)
    (source / "package" / "inner.py").write_text("x = 1")
    (source / "common.py").write_text("y = 1")
    (source / "common.py").chmod(0o600)
    (source / "link.py").symlink_to("/etc/passwd")
    levels.copy_readable(source, tmp_path / "target")
    copied = {path.relative_to(tmp_path / "target").as_posix() for path in (tmp_path / "target").rglob("*")}
    assert copied == {"package", "package/inner.py", "common.py"}
    assert (tmp_path / "target" / "common.py").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "target" / "package").stat().st_mode & 0o777 == 0o755
