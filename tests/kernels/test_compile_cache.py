"""Where compiled kernels are kept: found before the first import of a kernel, or a message with the fix."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kernels import compile_cache
from kernels.errors import CompileCacheError

KERNELS = Path(compile_cache.__file__).parent

# Imports a kernel, compiles it, and prints where it was kept.
PROGRAM = """
import numpy as np
from kernels.pricing import ladder
ladder.ladders(*(np.ones(shape) for shape in (1, (1, ladder.INPUTS), (1, 1))))
print(ladder.ladders._cache._cache_path)
"""


@pytest.fixture
def machine(tmp_path):
    """A read-only installation, a home that cannot be written, and a folder for temporary files."""
    shutil.copytree(KERNELS, tmp_path / "installed" / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("home", "temporary", "given"):
        (tmp_path / name).mkdir()
    for folder in ((tmp_path / "home"), *(path for path in (tmp_path / "installed").rglob("*") if path.is_dir())):
        folder.chmod(0o500)
    yield tmp_path
    for folder in (tmp_path / "home", tmp_path / "installed", *(tmp_path / "installed").rglob("*")):
        folder.chmod(0o700)


def run(machine, **variables):
    """Run the program without any right that the modes of the folders do not give; a variable that is None is not set."""
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"] if os.geteuid() == 0 else []
    if drop and shutil.which(drop[0]) is None:
        pytest.skip("run as root, which may write everywhere, without setpriv to give that up")
    environment = {"HOME": machine / "home", "TMPDIR": machine / "temporary", "PYTHONPATH": machine / "installed", **variables}
    kept = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    environment = kept | {name: str(value) for name, value in environment.items() if value is not None}
    command = [*drop, sys.executable, "-c", PROGRAM]
    return subprocess.run(command, env=environment, cwd=machine, capture_output=True, text=True, timeout=240, check=False)


def own(machine):
    """Return the folder among the temporary files."""
    return machine / "temporary" / f"revenue-engine-numba-{os.geteuid()}"


@pytest.mark.parametrize("variables", [{}, {"HOME": "/proc/none"}, {"XDG_CACHE_HOME": "/proc/none"}], ids=["read-only", "none", "xdg"])
def test_a_user_without_a_writable_home_keeps_them_in_a_private_temporary_folder(machine, variables):
    done = run(machine, **variables)
    assert done.returncode == 0, done.stderr
    assert own(machine) in Path(done.stdout.strip()).parents
    assert stat.S_IMODE(own(machine).stat().st_mode) == 0o700
    assert list(own(machine).rglob("*.nbi"))


def test_a_named_folder_that_can_be_written_is_used_and_nothing_else(machine):
    done = run(machine, NUMBA_CACHE_DIR=machine / "given" / "new")
    assert done.returncode == 0, done.stderr
    assert machine / "given" / "new" in Path(done.stdout.strip()).parents
    assert not own(machine).exists()


def test_a_named_folder_that_cannot_be_written_is_replaced_by_one_that_can(machine):
    (machine / "given").chmod(0o500)
    done = run(machine, NUMBA_CACHE_DIR=machine / "given" / "new")
    assert done.returncode == 0, done.stderr
    assert own(machine) in Path(done.stdout.strip()).parents


def test_a_home_that_can_be_written_comes_before_the_temporary_files(machine):
    (machine / "home").chmod(0o700)
    done = run(machine)
    assert done.returncode == 0, done.stderr
    assert machine / "home" / ".cache" / "numba" in Path(done.stdout.strip()).parents


@pytest.mark.parametrize("mode", [None, 0o777], ids=["a file", "open to others"])
def test_where_nothing_can_be_written_the_message_has_every_folder_and_the_fix(machine, mode):
    own(machine).write_text("") if mode is None else own(machine).mkdir()
    own(machine).chmod(mode or 0o600)
    done = run(machine)
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("kernels.errors.CompileCacheError: compiled kernels cannot be kept in any of ")
    for folder in (machine / "installed" / "kernels", machine / "home" / ".cache" / "numba", own(machine)):
        assert f"{folder} (" in message
    assert message.endswith(f"set NUMBA_CACHE_DIR to a folder that uid {os.geteuid()} can write")


@pytest.mark.skipif(os.geteuid() != 0, reason="not run as root, so no folder can be given to another user")
def test_a_temporary_folder_of_another_user_is_not_used_since_what_is_kept_there_is_run(machine):
    own(machine).mkdir()
    os.chown(own(machine), 65534, 65534)
    done = run(machine)
    assert done.returncode == 1
    assert f"{own(machine)} (it belongs to uid 65534" in done.stderr


def test_the_choice_is_inherited_by_child_processes(tmp_path, monkeypatch):
    monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path / "new"))
    assert compile_cache.rejected() is None
    assert compile_cache.choose() == os.environ[compile_cache.VARIABLE] == str(tmp_path / "new")


def test_a_named_folder_that_is_not_used_is_reported_with_the_reason(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path / "file" / "below"))
    assert compile_cache.rejected() == f"NUMBA_CACHE_DIR={tmp_path / 'file' / 'below'} (Not a directory)"
    monkeypatch.delenv(compile_cache.VARIABLE)
    assert compile_cache.rejected() is None


def test_an_error_of_the_cache_is_not_one_of_the_system():
    """So that no caller takes it for a file that is missing."""
    assert not issubclass(CompileCacheError, OSError)
