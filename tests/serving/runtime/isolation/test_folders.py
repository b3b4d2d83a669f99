"""Private folders: made so, made so again, and refused where another user has them."""

import os
import socket
import stat
import tempfile

import pytest

from serving.errors import SettingsError
from serving.runtime.isolation import folders
from tests.serving import other_user
from tests.serving.other_user import as_other_user


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_a_folder_that_is_made_can_be_opened_by_this_user_alone_whatever_the_umask_is(tmp_path, umask):
    before = os.umask(umask)
    try:
        assert mode(folders.private(tmp_path / "new" / "one")) == 0o700
    finally:
        os.umask(before)


@pytest.mark.parametrize("found", [0o777, 0o755, 0o750, 0o500], ids=oct)
def test_a_folder_that_was_open_to_others_is_closed_to_them_and_keeps_its_files(tmp_path, found):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "file").write_text("kept")
    (tmp_path / "one").chmod(found)
    assert mode(folders.private(tmp_path / "one")) == 0o700
    assert (tmp_path / "one" / "file").read_text() == "kept"


def test_a_link_is_refused_and_the_folder_behind_it_is_left_as_it_was(tmp_path):
    (tmp_path / "target").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(SettingsError, match=r"link is a symbolic link.*remove it"):
        folders.private(tmp_path / "link")
    assert mode(tmp_path / "target") == 0o755


def test_a_file_in_its_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"file is not a folder.*remove it"):
        folders.private(tmp_path / "file")
    with pytest.raises(SettingsError, match=r"REVENUE_ENGINE_HOME and TMPDIR"):
        folders.private(tmp_path / "file" / "below")


@as_other_user
def test_a_folder_of_another_user_is_refused_with_its_path_its_owner_and_what_to_do(tmp_path):
    (tmp_path / "theirs").mkdir(mode=0o777)
    os.chown(tmp_path / "theirs", other_user.uid(), -1)
    with pytest.raises(
        SettingsError, match=rf"theirs belongs to nobody \(uid {other_user.uid()}\).*remove the folder.*REVENUE_ENGINE_HOME"
    ):
        folders.private(tmp_path / "theirs")


@as_other_user
def test_a_temporary_folder_that_another_user_made_first_is_refused(monkeypatch):
    with other_user.reachable_folder() as folder:
        other_user.run("os.mkdir(sys.argv[1], 0o777)", folder / f"revenue-engine-{os.geteuid()}")
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with pytest.raises(SettingsError, match="belongs to nobody"):
            folders.temporary()


@as_other_user
def test_another_user_cannot_list_a_private_folder_nor_open_a_socket_in_it(tmp_path):
    with other_user.reachable_folder() as folder:
        path = folders.private(folder / "own") / "socket"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            path.chmod(0o777)
            listener.listen()
            tried = other_user.run(
                """
for attempt in (lambda: os.listdir(os.path.dirname(sys.argv[1])), lambda: socket.socket(socket.AF_UNIX).connect(sys.argv[1])):
    try:
        attempt()
        print("done")
    except PermissionError:
        print("refused")
""",
                path,
            )
    assert tried.split() == ["refused", "refused"]
