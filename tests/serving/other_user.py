"""Programs that run as another user of this machine, to test what that user can reach."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

NAME = "nobody"
as_other_user = pytest.mark.skipif(os.geteuid() != 0, reason="not run as root, so no process can be started as another user")

# The interpreter may be in a folder that only root can open: it gives up its rights once it runs.
_BECOME = """
import contextlib, os, select, socket, sys, time
os.setgroups([]), os.setgid({uid}), os.setuid({uid})
"""


def uid():
    """Return the id of the other user."""
    return pwd.getpwnam(NAME).pw_uid


def start(program, *arguments, env=None):
    """Start a Python program as the other user; it has contextlib, os, select, socket, sys and time."""
    command = [sys.executable, "-c", _BECOME.format(uid=uid()) + program, *map(str, arguments)]
    return subprocess.Popen(command, env=env, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(program, *arguments, env=None):
    """Run a Python program as the other user, and return what it printed."""
    child = start(program, *arguments, env=env)
    try:
        printed, _ = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 0, printed
    return printed.strip()


@contextmanager
def reachable_folder():
    """A folder that every user of the machine can reach and change, as it must not be."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
