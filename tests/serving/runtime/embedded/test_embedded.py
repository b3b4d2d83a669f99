"""The table of embedded engines: each has an address that replaces it, starts, answers, and stops for good."""

import os

import pytest

from serving.runtime import processes
from serving.runtime.doctor import examine
from serving.runtime.embedded import EMBEDDED
from serving.settings import Settings

NODE = f"test-table-{os.getpid()}"
engines = pytest.mark.parametrize("engine", EMBEDDED, ids=[engine.name for engine in EMBEDDED])


@engines
def test_the_setting_that_replaces_an_engine_takes_its_address(engine):
    settings = Settings()
    assert engine.needed(settings)
    assert engine.address(settings) is None
    assert engine.address(engine.at(settings, "redis://elsewhere")) == "redis://elsewhere"
    assert Settings.model_validate(engine.at(settings, "redis://elsewhere").model_dump()) == engine.at(settings, "redis://elsewhere")


@engines
def test_an_engine_answers_from_its_start_until_it_is_stopped_and_keeps_its_data_in_its_data_folder(engine, tmp_path):
    running = engine.start(tmp_path, NODE)
    if running.url is None:
        pytest.skip(str(running.reason))
    try:
        assert running.check()
        assert engine.data is None or (tmp_path / engine.data).is_dir()
    finally:
        running.stop()
    assert not running.check()
    assert processes.marked(NODE) == []


@engines
def test_doctor_names_every_engine_and_the_setting_that_replaces_it(engine):
    (finding,) = [finding for finding in examine(Settings()) if finding.name == engine.name]
    assert engine.setting in finding.fix
    (finding,) = [finding for finding in examine(engine.at(Settings(), "redis://elsewhere")) if finding.name == engine.name]
    assert finding.found == "redis://elsewhere"


def test_no_two_engines_share_a_name_a_setting_or_a_folder():
    for values in zip(*((engine.name, engine.setting, engine.data or engine.name) for engine in EMBEDDED), strict=True):
        assert len(set(values)) == len(EMBEDDED)
