"""The doctor's findings about folders: where compiled kernels are kept."""

import pytest

from kernels import compile_cache
from kernels.errors import CompileCacheError
from serving.runtime import doctor
from serving.settings import Settings


def found():
    return {finding.name: finding for look in (doctor._compiled_kernels,) for finding in look(Settings())}["kernel cache"]


def test_the_folder_of_compiled_kernels_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path / "numba"))
    assert (found().found, found().ok) == (str(tmp_path / "numba"), True)


def test_a_named_folder_that_cannot_be_written_is_reported_with_what_is_used_instead(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path / "file" / "below"))
    finding = found()
    assert (finding.ok, finding.needed) == (False, False)
    assert f"not NUMBA_CACHE_DIR={tmp_path / 'file' / 'below'} (Not a directory)" in finding.found
    assert finding.fix == "make it writable, or set NUMBA_CACHE_DIR"


def test_without_any_folder_the_server_cannot_start_and_the_fix_is_named(monkeypatch):
    def none():
        raise CompileCacheError("compiled kernels cannot be kept in any of /a (Permission denied)")

    monkeypatch.setattr(compile_cache, "choose", none)
    finding = found()
    assert (finding.ok, finding.needed) == (False, True)
    assert "/a (Permission denied)" in finding.found
    assert finding.fix == "set NUMBA_CACHE_DIR to a folder that this user can write"


@pytest.mark.parametrize("check", [doctor._registry])
def test_the_registry_is_not_read_where_no_kernel_can_be_imported(monkeypatch, check):
    import builtins

    imported = builtins.__import__

    def refuse(name, *rest):
        if name == "serving.engines":
            raise CompileCacheError("nowhere")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    (finding,) = check(Settings())
    assert finding.found.endswith("not read without a kernel cache")
    assert not finding.ok
