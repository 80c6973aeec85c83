"""What `make` says where it cannot install, and does where HOME refuses: told with programs that are scripts, so nothing is fetched."""
import os
import re
import shutil
import subprocess

import pytest

from pipeline.study import ROOT

PYTHON = """#!/bin/sh
case "$*" in
  "-c "*) exit {old} ;;
  --version) echo Python 3.x ;;
  "-m venv .venv") [ {venv} = 0 ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python && cp uv .venv/bin/uv ;;
esac
"""
UV = """#!/bin/sh
echo "$*" >> installed.txt
exit {packages}
"""


@pytest.fixture
def make(tmp_path):
    """`make lint` in a folder of its own, with a Python that is `old`, or has no `venv`, or a uv that installs no `packages`."""
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)

    def run(**fails):
        fails = {"old": 0, "venv": 0, "packages": 0} | fails
        for name, text in (("python", PYTHON), ("uv", UV)):
            (tmp_path / name).write_text(text.format(**fails))
            (tmp_path / name).chmod(0o755)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        return subprocess.run(["make", f"PYTHON={tmp_path / 'python'}", ".venv/.installed"], cwd=tmp_path, env=environment,
                              capture_output=True, text=True, check=False)
    return run


@pytest.mark.parametrize("fails, said", [({"old": 1}, "Python 3.11 or newer is needed; "), ({"venv": 1}, "apt install python3-venv"),
                                         ({"packages": 1}, "the packages are not installed")])
def test_what_cannot_be_installed_is_said_and_the_next_call_goes_on(make, tmp_path, fails, said):
    failed = make(**fails)
    assert failed.returncode and said in failed.stdout and not (tmp_path / ".venv/.installed").exists()
    went_on = make()
    assert not went_on.returncode and (tmp_path / ".venv/.installed").exists()
    assert "--require-hashes" in (tmp_path / "installed.txt").read_text()
    assert "up to date" in make().stdout


@pytest.mark.parametrize("home", ["/dev/null", ".", "old"])
def test_snakemake_has_a_cache_where_home_refuses_one(tmp_path, home):
    """A container's user may have no folder, or one that is read-only, and may have been used by Snakemake before it was."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "old/.cache").mkdir(parents=True)
    (tmp_path / "old/.cache/snakemake").symlink_to("/proc")  # a folder in which root, too, can make nothing
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name, text in (("python", "exit 3"), ("snakemake", 'echo "cache: ${XDG_CACHE_HOME-}"')):
        (tmp_path / ".venv/bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / ".venv/bin" / name).chmod(0o755)
    settings = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME" and not name.startswith("MAKE")}
    printed = subprocess.run(["make", "-o", ".venv/.installed", "study"], cwd=tmp_path, env=settings | {"HOME": home},
                             capture_output=True, text=True, check=True).stdout
    assert printed.startswith("cache: \n" if home == "." else f"cache: {tmp_path}/.snakemake/cache\n")


def test_recipes_say_where_a_program_of_the_environment_is():
    """A Mac's make, 3.81, looks for it in the PATH that make was started with, whatever the Makefile exports."""
    assert not re.findall(r"(?m)^\t@(?:\w+=\S+ )*(?:python|ruff|uv) .*", (ROOT / "Makefile").read_text())


@pytest.mark.parametrize("name", ["PYTHONHOME", "PYTHONPATH"])
def test_packages_are_those_that_are_pinned(name):
    """Not those of another Python, which some clusters name to all programs."""
    environment = {each: value for each, value in os.environ.items() if not each.startswith("MAKE")} | {name: "/usr/lib/python3"}
    printed = subprocess.run(["make", "-f", "Makefile", "-f", "-", "told"], cwd=ROOT, env=environment, text=True,
                             input=f"told:\n\t@echo [$${name}]\n", capture_output=True, check=True).stdout
    assert printed == "[]\n"
