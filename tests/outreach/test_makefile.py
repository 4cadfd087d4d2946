"""What `make` says when it cannot go on, and that it runs from a folder with any name."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

# These tests may run below `make test`, which hands its own flags on.
OUTSIDE = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "PGBIN"}
CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout that nothing was set up in yet."""
    made = tmp_path / "my check out"
    shutil.copytree(CHECKOUT / "requirements", made / "requirements")
    shutil.copy(CHECKOUT / "Makefile", made)
    return made


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=folder, env=OUTSIDE, capture_output=True, text=True, timeout=60)


def a_python_that(folder: Path, script: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return "PYTHON=./python"


def test_it_lists_its_targets(copy: Path) -> None:
    shown = make(copy)
    assert shown.returncode == 0
    assert {line.split()[1] for line in shown.stdout.splitlines()} >= {"demo", "test", "chaos", "run", "setup"}


def test_an_unknown_target_names_the_known_ones(copy: Path) -> None:
    refused = make(copy, "deom")
    assert refused.returncode == 2
    assert "no target 'deom'" in refused.stderr
    assert "make demo" in refused.stderr


def test_a_missing_python_is_named_with_what_to_install(copy: Path) -> None:
    refused = make(copy, "demo", "PYTHON=./nowhere")
    assert refused.returncode == 2
    assert "There is no ./nowhere. Install Python 3.11 or newer" in refused.stderr


def test_an_old_python_is_refused_with_its_version(copy: Path) -> None:
    old = a_python_that(copy, '[ "$1" = --version ] && echo Python 3.9.2; [ "$1" = --version ]')
    refused = make(copy, "demo", old)
    assert refused.returncode == 2
    assert "./python (Python 3.9.2) is too old" in refused.stderr


def test_a_python_without_venv_says_which_package_has_it(copy: Path) -> None:
    bare = a_python_that(copy, 'case "$2" in *ensurepip*) exit 1;; esac')
    refused = make(copy, "demo", bare)
    assert refused.returncode == 2
    assert "apt-get install python3-venv" in refused.stderr
    assert not (copy / ".venv").exists()


def test_a_set_up_that_was_cut_off_is_made_anew(copy: Path) -> None:
    venv = copy / ".venv"
    venv.mkdir()
    (venv / "unfinished").touch()
    (venv / "left behind").touch()
    for lock in (copy / "requirements").iterdir():
        lock.write_text("")

    assert make(copy, "setup").returncode == 0

    assert not (venv / "left behind").exists()
    assert not (venv / "unfinished").exists()
    assert (venv / "base.txt").exists()
    assert "Making" not in make(copy, "setup").stdout


def test_set_ups_that_start_at_once_take_turns(copy: Path) -> None:
    for lock in (copy / "requirements").iterdir():
        lock.write_text("")
    both = [
        subprocess.Popen(
            ["make", "setup"], cwd=copy, env=OUTSIDE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("Making .venv" in text for text in said) == 1
