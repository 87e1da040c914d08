"""Similar code: what was copied is found though it looks different, what everybody writes is not."""

import re
import subprocess
import sys

import pytest
from synthetic import student, write_results

from autograder.desk.similarity import LEAST_SHARE, MAX_LINES, excerpts, similar_pairs
from autograder.desk.sources import skeleton
from autograder.tasks import ROOT
from tools.cli import main
from tools.specimens import read_variants

SKELETON = skeleton()
VARIANTS = {variant.name: variant.files for variant in read_variants() if not variant.loses}
COPIED = "losses-level-by-level"


def renamed(text):
    """The same code, hidden: other variables, comments, blank lines, and the functions the other way round."""
    for name in ("level_name", "boxes", "deltas", "areas", "candidates", "matched", "total", "foreground"):
        text = re.sub(rf"(?<![.\w]){name}\b", f"my_{name}", text)
    text = re.sub(r"#.*", "# mine", text).replace("\n    return", "\n\n    return")
    head, *blocks = re.split(r"^(?=def |class |@)", text, flags=re.MULTILINE)
    return head + "".join(reversed(blocks))


def disguised(files):
    return {name: renamed(text) for name, text in files.items()}


def names(pairs):
    return [{pair.first, pair.second} for pair in pairs]


def test_honest_variants_are_not_alike():
    assert len(VARIANTS) > 30
    assert similar_pairs(VARIANTS, SKELETON) == []


@pytest.mark.parametrize("copied", [COPIED, "nms-overlap-matrix", "locations-by-loops"])
def test_disguised_copy_is_found_among_honest_ones(copied):
    (pair,) = similar_pairs(VARIANTS | {"copy": disguised(VARIANTS[copied])}, SKELETON)
    assert {pair.first, pair.second} == {"copy", copied}
    assert pair.share > LEAST_SHARE


def test_regions_lie_where_the_code_lies():
    sources = VARIANTS | {"copy": disguised(VARIANTS[COPIED])}
    (pair,) = similar_pairs(sources, SKELETON)
    assert pair.regions
    for region, texts in zip(pair.regions, excerpts(pair, sources)):
        for who, (name, first, last), shown in zip((pair.first, pair.second), region, texts):
            lines = sources[who][name].split("\n")[first - 1 : last]
            assert shown["text"] == "\n".join(lines[:MAX_LINES])
            assert (shown["file"], shown["first"], shown["cut"]) == (name, first, max(0, len(lines) - MAX_LINES))


def test_bare_skeletons_have_nothing_in_common():
    assert similar_pairs({"a": SKELETON, "b": SKELETON}, SKELETON) == []


def test_two_of_a_class_of_two_are_compared():
    files = VARIANTS[COPIED]
    (pair,) = similar_pairs({"a": files, "b": disguised(files)}, SKELETON)
    assert pair.share > LEAST_SHARE
    (pair,) = similar_pairs({"a": files, "b": dict(files)}, SKELETON)
    assert pair.share == 1


@pytest.mark.parametrize(
    "text", ["", "def f(:\n", "x = '''never closed\n", "if x:\n  a\n b\n", "\x00", "a\rb", "\ud800 = 1"]
)
def test_file_that_is_no_python_does_no_harm(text):
    assert similar_pairs({"a": {"common.py": text}, "b": VARIANTS[COPIED], "c": {}}, SKELETON) == []


def test_same_fingerprints_on_every_day():
    """Python hashes texts differently in each process; fingerprints must not."""
    code = (
        "from autograder.desk.similarity import _fingerprints as f\n"
        "print(f({'a.py': open('solutions/common.py').read()}, set()))"
    )
    said = set()
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin", "PYTHONPATH": "."}
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
        said.add(run.stdout)
    assert len(said) == 1
    assert len(said.pop()) > 1000


def test_report_shows_them_side_by_side(tmp_path, chromium, capsys):
    evil = "<script>document.title='owned'</script>"
    sources = {"ann": VARIANTS[COPIED], "bob": disguised(VARIANTS[COPIED]), "cem": VARIANTS["nms-mask"]}
    sources["bob"]["common.py"] = sources["bob"]["common.py"].replace("# mine", f"# {evil}")
    for name, files in sources.items():
        (tmp_path / "class" / name).mkdir(parents=True)
        for file, text in files.items():
            (tmp_path / "class" / name / file).write_text(text)
    results = write_results(tmp_path / "graded", [student(name, submission_sha256="") for name in sources])
    assert main(["report", str(results), "--submissions", str(tmp_path / "class")]) == 0
    page = chromium(results / "report.html")
    assert re.search(r"<summary>ann and bob: \d+ %</summary>", page)
    assert "alike with ann, see Similar code" in page
    assert "owned'</script>" not in page
    assert "&lt;script&gt;document.title='owned'" in page
    assert main(["report", str(results)]) == 0
    assert "Similar code" not in (results / "report.html").read_text()
