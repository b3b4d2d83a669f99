"""The environments of the peers: pinned, made once, and none where pip fails."""

import re
import subprocess
import zipfile

import pytest

from benchmarks import environments

PINNED = sorted(environments.PEERS.glob("constraints-*.txt"))


@pytest.mark.parametrize("file", PINNED, ids=lambda file: file.stem)
def test_constraints_are_public_versions_and_nothing_else(file):
    lines = file.read_text().splitlines()
    wrong = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line)]
    assert lines
    assert wrong == []


def test_every_requirement_is_pinned():
    wanted = environments.requirements_of()
    assert {file.stem.removeprefix("constraints-") for file in PINNED} == set(wanted)
    for name, requirements in wanted.items():
        pinned = {_plain(line.partition("==")[0]) for line in (environments.PEERS / f"constraints-{name}.txt").read_text().splitlines()}
        missing = [each for each in requirements if _plain(re.split(r"[\[<>=~!]", each)[0]) not in pinned]
        assert missing == [], name


def test_no_environment_holds_torch_for_gpus():
    held = {line for file in PINNED for line in file.read_text().splitlines() if re.match(r"torch==|nvidia-(cuda|cudnn|cublas)", line)}
    assert held <= {"torch==2.13.0"}


def test_the_output_of_pip_freeze_becomes_public_versions():
    frozen = ["Zope==5.1", "torch==2.13.0+cpu", "local @ file:///somewhere/local.whl", "-e git+https://example.org/x", "numpy==2.4.6"]
    assert environments.public(frozen) == ["numpy==2.4.6", "torch==2.13.0", "Zope==5.1"]


def test_a_peer_without_requirements_runs_in_this_environment(tmp_path):
    python = environments.python("anything", (), tmp_path)
    said = subprocess.run([python, "-c", "import benchmarks.environments"], capture_output=True, check=False)
    assert said.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(autouse=True)
def _no_index(monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_an_environment_is_made_once_and_again_when_its_pins_change(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "PEERS", tmp_path)
    (tmp_path / "constraints-toy.txt").write_text("toy==1.0\n")
    wanted = (str(_wheel(tmp_path, "1.0")),)
    python = environments.python("toy", wanted, tmp_path / "made")
    assert _version(python) == "1.0"
    mark = python.parent / "mark"
    mark.touch()
    assert environments.python("toy", wanted, tmp_path / "made") == python
    assert mark.exists(), "made again for nothing"
    (tmp_path / "constraints-toy.txt").write_text("toy==2.0\n")
    again = environments.python("toy", (str(_wheel(tmp_path, "2.0")),), tmp_path / "made")
    assert _version(again) == "2.0"
    assert not mark.exists()


def test_what_cannot_be_installed_is_said_in_one_line_and_not_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "PEERS", tmp_path)
    (tmp_path / "constraints-toy.txt").write_text("toy==3.0\n")
    wanted = (str(_wheel(tmp_path, "1.0")),)
    with pytest.raises(environments.NotInstalledError, match=r"^toy could not be installed: ERROR: [^\n]+$") as first:
        environments.python("toy", wanted, tmp_path / "made")
    mark = tmp_path / "made" / "toy" / "mark"
    mark.touch()
    with pytest.raises(environments.NotInstalledError) as second:
        environments.python("toy", wanted, tmp_path / "made")
    assert str(second.value) == str(first.value)
    assert mark.exists()


def _wheel(folder, version):
    """Return a wheel of a package named toy, made by hand so that nothing has to be built."""
    path = folder / f"toy-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy.py", f"version = {version!r}\n")
        archive.writestr(f"toy-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: toy\nVersion: {version}\n")
        archive.writestr(
            f"toy-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"toy-{version}.dist-info/RECORD", "")
    return path


def _version(python):
    return subprocess.check_output([python, "-c", "import toy; print(toy.version)"], text=True).strip()


def _plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()
