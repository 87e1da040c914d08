"""A headless browser for the pages, where there is one."""

import shutil
import subprocess

import pytest

OPTIONS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """Function (path, *options): what Chromium prints about a page, --dump-dom by default."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs chromium")
    profile = tmp_path_factory.mktemp("profile")

    def look(path, *options):
        command = [program, *OPTIONS.split(), f"--user-data-dir={profile}", *(options or ("--dump-dom",))]
        return subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120).stdout

    return look
