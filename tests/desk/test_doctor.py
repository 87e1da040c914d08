"""`kit doctor`: each thing is found, or named with a remedy; only what is necessary makes the exit code 1."""

import collections
import http.server
import importlib.metadata
import json
import shutil
import subprocess
import threading

import pytest

from autograder import isolation
from tools import doctor
from tools.cli import main
from tools.doctor import Finding


def only(findings):
    assert len(findings) == 1
    return findings[0]


def test_doctor_finds_everything_necessary_here(tmp_path, capsys):
    assert main(["doctor", "--offline", "--json", str(tmp_path / "findings.json")]) == 0
    findings = json.loads((tmp_path / "findings.json").read_text())
    names = [finding["name"] for finding in findings]
    assert names == ["python", "packages", "torch", "gpu", "bubblewrap", "isolation", "browser", "disk",
                     "temporary files", "references", "data"]  # fmt: skip
    assert all(finding["remedy"] for finding in findings if finding["state"] != "ok")
    said = capsys.readouterr().out
    assert said.splitlines()[-1].startswith("everything necessary is there")
    assert all(finding["detail"] in said for finding in findings)


def test_exit_code_is_1_only_for_what_is_necessary(monkeypatch, capsys):
    limited = Finding("gpu", "limited", "none", "buy one")
    monkeypatch.setattr(doctor, "checks", lambda *_: [lambda: [limited]])
    assert main(["doctor"]) == 0
    monkeypatch.setattr(doctor, "checks", lambda *_: [lambda: [limited, Finding("torch", "missing", "no", "get it")]])
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.endswith("missing  torch: no\n         -> get it\nmissing: torch\n")


# What is broken -> how, the check that sees it, its state, and what it says.
DISK = collections.namedtuple("DISK", "total used free")
BROKEN = {
    "no bubblewrap": (lambda m: m.setattr(shutil, "which", lambda _: None), "check_bubblewrap", "limited", "apt-get"),
    "no browser": (lambda m: m.setattr(shutil, "which", lambda _: None), "check_browser", "limited", "chromium"),
    "no namespaces": (
        lambda m: m.setattr(isolation, "choose_level", lambda: ("process", "graded at process: weak")),
        "check_namespaces",
        "limited",
        "allow namespaces",
    ),
    "full disk": (
        lambda m: m.setattr(shutil, "disk_usage", lambda _: DISK(9, 9, 5 << 20)),
        "check_disk",
        "missing",
        "room",
    ),
    "small disk": (
        lambda m: m.setattr(shutil, "disk_usage", lambda _: DISK(9, 9, 3 << 30)),
        "check_disk",
        "limited",
        "5 GiB",
    ),
    "no references": (
        lambda m: m.setattr(doctor, "ROOT", doctor.ROOT / "docs"),
        "check_references",
        "missing",
        "kit reference",
    ),
    "no data": (lambda m: m.setattr(doctor, "ROOT", doctor.ROOT / "docs"), "check_data", "limited", "kit data sample"),
    "wrong data": (lambda m: m.setenv("FCOS_VOC_ROOT", "/nowhere"), "check_data", "limited", "unset it"),
    "old python": (lambda m: m.setattr(doctor.sys, "version_info", (3, 9, 1)), "check_python", "missing", "3.10"),
    "kit not installed": (
        lambda m: m.setattr(importlib.metadata, "requires", _raise(importlib.metadata.PackageNotFoundError("kit"))),
        "check_packages",
        "missing",
        "make setup",
    ),
    "package too old": (
        lambda m: m.setattr(importlib.metadata, "version", lambda _: "0.0.1"),
        "check_packages",
        "missing",
        "make setup",
    ),
    "torch crashes": (
        lambda m: m.setattr(doctor, "_TORCH", "import os, sys; sys.stderr.write('undefined symbol'); os._exit(1)"),
        "check_torch",
        "missing",
        "pair",
    ),
    "wrong NMS": (
        lambda m: m.setattr(doctor, "_TORCH", 'print(\'["2.5", "0.1", false, [], [], false]\')'),
        "check_torch",
        "missing",
        "pair",
    ),
}


def _raise(error):
    def function(*_):
        raise error

    return function


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named_with_a_remedy(name, monkeypatch):
    spoil, check, state, remedy = BROKEN[name]
    monkeypatch.delenv("FCOS_VOC_ROOT", raising=False)
    spoil(monkeypatch)
    found = [finding for finding in getattr(doctor, check)() if finding.state != "ok"]
    assert found
    assert {finding.state for finding in found} == {state}
    assert all(remedy in finding.remedy for finding in found)


def test_gpu_is_named_with_its_memory(monkeypatch):
    answer = json.dumps(["2.5", "0.20", True, ["Some GPU"], [24 << 30], False])
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, f"{answer}\n", ""))
    assert doctor.check_torch()[1] == Finding("gpu", "ok", "Some GPU (24 GiB)")


class Mirror(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200 if self.path.startswith("/good/") else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def mirrors(tmp_path, monkeypatch):
    """Function (folders): the manifest names a local server's folders as mirrors."""
    for variable in ("http_proxy", "HTTP_PROXY", "FCOS_VOC_MIRROR"):
        monkeypatch.delenv(variable, raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    (tmp_path / "data").mkdir()

    def name(*folders):
        addresses = [f"http://127.0.0.1:{server.server_port}/{folder}/" for folder in folders]
        manifest = {"mirrors": addresses, "archives": {"trainval": {"file": "voc.tar"}}}
        (tmp_path / "data" / "manifest.json").write_text(json.dumps(manifest))
        return addresses

    yield name
    server.shutdown()
    server.server_close()


def test_one_working_mirror_is_enough(mirrors):
    addresses = mirrors("bad", "good")
    assert only(doctor.check_mirrors(20)) == Finding("mirrors", "ok", f"1 of 2 answer, {addresses[1]} first")


def test_dead_mirrors_are_named_with_what_to_do(mirrors):
    addresses = mirrors("bad")
    finding = only(doctor.check_mirrors(20))
    assert (finding.state, finding.detail) == ("limited", f"none answers ({addresses[0]}: HTTP 404)")
    assert "kit data voc2007 --archive" in finding.remedy


def test_bad_argument_is_answered_in_one_line(capsys):
    assert main(["doctor", "--offline", "--json", "nowhere/x.json"]) == 2
    assert capsys.readouterr().err == "kit doctor: nowhere/x.json: the folder nowhere does not exist\n"
