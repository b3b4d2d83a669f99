"""Addresses that other machines reach are refused until they are allowed, and then warned of."""

import subprocess
import sys
from pathlib import Path

import pytest

from serving.errors import SettingsError
from serving.runtime.isolation import remote_access
from serving.runtime.supervisor import Supervisor
from serving.settings import ServerSettings, Settings

EXPOSED = ["0.0.0.0", "::", "", "192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7", "0"]
LOCAL = ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "localhost"]


@pytest.mark.parametrize("host", EXPOSED)
def test_an_address_that_others_reach_is_refused_with_the_setting_that_allows_it(host):
    with pytest.raises(SettingsError, match=r"neither authenticates callers nor encrypts.*server\.allow_remote_access: true"):
        remote_access.warning(ServerSettings(host=host))


@pytest.mark.parametrize("host", EXPOSED)
def test_where_it_is_allowed_the_start_warns_of_it(host):
    said = remote_access.warning(ServerSettings(host=host, allow_remote_access=True))
    assert said is not None
    assert said.startswith("WARNING: ")
    assert repr(host) in said


@pytest.mark.parametrize("host", LOCAL)
@pytest.mark.parametrize("allowed", [False, True])
def test_a_loopback_address_needs_no_setting_and_gets_no_warning(host, allowed):
    assert remote_access.warning(ServerSettings(host=host, allow_remote_access=allowed)) is None


def test_without_a_socket_of_its_own_the_server_listens_nowhere(tmp_path):
    assert remote_access.warning(ServerSettings(host="0.0.0.0", own_socket=False)) is None


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("shop.internal", "http://shop.internal:80"),
    ],
)
def test_the_address_that_is_printed_is_one_that_can_be_called(host, url):
    assert remote_access.url(host, 80) == url


def test_serve_starts_nothing_on_a_refused_address(tmp_path):
    run = Supervisor(Settings(home=tmp_path / "home", server=ServerSettings(host="0.0.0.0")))
    with pytest.raises(SettingsError, match="allow_remote_access"):
        run.run()
    assert not (tmp_path / "home").exists()


def test_a_deployment_on_a_ray_cluster_is_refused_as_serve_is():
    program = "from serving.runtime import deployments; deployments.build({'server': {'host': '0.0.0.0'}})"  # Ray warns when it is imported
    built = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[4], capture_output=True, text=True, check=False)
    assert built.returncode == 1
    assert "server.allow_remote_access: true" in built.stderr.splitlines()[-1]


def test_an_allowed_start_prints_the_warning_to_standard_error_before_anything_else(tmp_path, monkeypatch, capsys):
    settings = Settings(home=tmp_path, server=ServerSettings(host="0.0.0.0", port=1, allow_remote_access=True))
    run = Supervisor(settings)
    monkeypatch.setattr(run, "_start", lambda: pytest.fail(capsys.readouterr().err))
    with pytest.raises(pytest.fail.Exception, match=r"^WARNING: server.host '0.0.0.0' can be reached from other machines"):
        run.run()
