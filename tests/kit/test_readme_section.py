"""A command replaces its own section of a README and nothing else."""

import pytest

from autograder.errors import KitError
from tools.readme_section import README, write_section

TEXT = "# By hand\n<!-- written by `kit a` -->\nold\n<!-- end of `kit a` -->\nbetween\n<!-- written by `kit b` -->\nb\n"


def test_section_is_replaced_and_the_rest_stays(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(TEXT)
    for _ in range(2):
        write_section("kit a", ["new", "lines"], readme)
        assert readme.read_text() == TEXT.replace("\nold\n", "\n\nnew\nlines\n\n")


@pytest.mark.parametrize("command", ["kit b", "kit c"])  # no end, no section at all
def test_missing_marker_is_an_error_that_names_it(tmp_path, command):
    readme = tmp_path / "README.md"
    readme.write_text(TEXT)
    with pytest.raises(KitError, match=rf"needs the two lines .*{command}.* and .*{command}"):
        write_section(command, ["new"], readme)
    assert readme.read_text() == TEXT


@pytest.mark.parametrize("command", ["kit verify --readme", "kit verify --security --readme"])
def test_readme_of_the_grader_has_a_place_for_each_command(tmp_path, command):
    copy = tmp_path / "README.md"
    copy.write_text(README.read_text(encoding="utf-8"), encoding="utf-8")
    write_section(command, ["here"], copy)
    assert "\nhere\n" in copy.read_text(encoding="utf-8")
