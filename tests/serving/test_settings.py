"""Settings: files, then the environment, then the command line; a mistake is named with its place."""

import pytest

from serving import settings
from serving.errors import SettingsError


def test_the_environment_wins_over_files_and_the_command_line_over_both(tmp_path, monkeypatch):
    config = tmp_path / "mine.yaml"
    config.write_text("server: {port: 1, replicas: 2}\ncache: {ttl_s: 9}\n")
    monkeypatch.setenv("REVENUE_ENGINE_SERVER__PORT", "3")
    loaded = settings.load(config, server={"host": "127.0.0.2"})
    assert (loaded.server.port, loaded.server.replicas, loaded.server.host, loaded.cache.ttl_s) == (3, 2, "127.0.0.2", 9)
    assert settings.load(config, server={"port": 4}).server.port == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server: {prot: 1}", r"server\.prot"),
        ("server: {port: 70000}", r"server\.port.*70000"),
        ("server: [1]", "server"),
        ("server: 5", "server"),
        ("- 5", "not names with values"),
        ("just text", "not names with values"),
        ("server: {port: 1", "cannot read settings"),
        ("cache: {shared: sometimes}", r"cache\.shared.*sometimes"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(tmp_path, text, said):
    config = tmp_path / "mine.yaml"
    config.write_text(text)
    with pytest.raises(SettingsError, match=said):
        settings.load(config)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        settings.load(tmp_path / "nowhere.yaml")


def test_settings_cannot_be_changed_once_read():
    with pytest.raises(Exception, match="frozen"):
        settings.load().server.port = 1
