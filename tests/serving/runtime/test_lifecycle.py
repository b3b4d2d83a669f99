"""The running server: starts safe, loses nothing in planned changes, and leaves nothing behind."""

import ipaddress
import json
import os
import signal
import stat
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from serving.engines import ENGINES, named
from serving.runtime.embedded import valkey as embedded
from tests.serving import other_user
from tests.serving.live import Callers, Live

# Opens unix sockets and files, and prints the paths of those that it could.
OPENER = """
for path in sys.argv[1:]:
    with contextlib.suppress(OSError):
        if path.endswith(".log"):
            open(path).close()
        else:
            socket.socket(socket.AF_UNIX).connect(path)
        print(path)
"""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def server(tmp_path_factory, registry, registry_url):
    live = Live(tmp_path_factory.mktemp("home"), registry_url, "--replicas", "2")
    yield live.wait_ready()
    live.stop()


def test_the_example_is_answered(server):
    status, headers, body = server.post(ENGINES[0].example)
    answer = json.loads(body)
    assert status == 200
    assert 0 < answer["purchaseProbability"] < 1
    assert answer["modelVersion"].startswith("purchase-")
    assert "model;dur=" in headers["server-timing"]


def test_nothing_listens_beyond_the_loopback_interface(server):
    """Every listening socket of every process of the server is bound to 127.0.0.1 or is a unix socket."""
    family = {process.pid for process in server.family()}
    listening = [c for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN and c.pid in family]
    assert server.port in {c.laddr.port for c in listening}
    beyond = [c.laddr for c in listening if not _loopback(c.laddr.ip)]
    assert beyond == []


def _loopback(ip):
    address = ipaddress.ip_address(ip)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def test_metrics_sum_all_replicas_whichever_answers(server):
    def counted():
        return server.metric("revenue_engine_requests_total")

    before = settled(counted)
    for _ in range(60):  # a new connection each: both replicas take some
        server.post(ENGINES[0].example)
    assert settled(counted) == before + 60
    assert server.metric("revenue_engine_replicas") == 2


def settled(value):
    """Return value() once it has been the same for half a second: a replica hands its numbers over ten times a second."""
    seen, since = value(), time.monotonic()
    while time.monotonic() - since < 0.5:
        if (now := value()) != seen:
            seen, since = now, time.monotonic()
    return seen


def test_a_rolling_update_resets_no_connection(server):
    with Callers(server.port) as callers:
        callers.wait_for(50)
        before = {process.pid for process in server.replicas()}
        os.kill(server.process.pid, signal.SIGHUP)
        end = time.monotonic() + 120
        while before & {process.pid for process in server.replicas()}:
            assert time.monotonic() < end, server.log.read_text()
            callers.wait_for(20)
        callers.wait_for(50)
    assert callers.failures == []


def test_a_killed_replica_is_replaced_and_a_client_that_retries_once_sees_no_error(server):
    with Callers(server.port, retries=1) as callers:
        callers.wait_for(50)
        victim = server.replicas()[0]
        victim.kill()
        end = time.monotonic() + 120
        while len([p for p in server.replicas() if p.pid != victim.pid]) < 2 or server.metric("revenue_engine_replicas") != 2:
            assert time.monotonic() < end, server.log.read_text()
            callers.wait_for(20)
        callers.wait_for(50)
    assert callers.failures == []


def test_a_killed_pool_is_replaced_and_delays_no_other_question(server):
    """Its own question is answered by 503 meanwhile, or 504 while nothing of the processors is left for it, and then again."""
    emotion = named("emotion")
    body = msgspec.json.encode(emotion.example)

    def statuses_until_answered():
        end, seen = time.monotonic() + 120, list[int]()
        while seen[-1:] != [200]:
            assert time.monotonic() < end, server.log.read_text()
            seen.append(server.request("POST", emotion.route, body, {"content-type": "application/json"})[0])
        return seen

    assert set(statuses_until_answered()) <= {200, 504}
    with Callers(server.port) as callers:
        callers.wait_for(50)
        victims = server.pools()
        for victim in victims:
            victim.kill()
        seen = statuses_until_answered()
        callers.wait_for(50)
    assert callers.failures == []
    assert set(seen) <= {200, 503, 504}


def test_every_replica_takes_a_promotion_without_a_failed_request(server, registry, second_model):
    champion = registry.pointer("purchase", "champion")
    with Callers(server.port) as callers:
        callers.wait_for(50)
        registry.promote(second_model.version)
        end = time.monotonic() + 30
        versions = set()
        while versions != {second_model.version}:
            assert time.monotonic() < end, f"still {versions}"
            versions = {server.answered_by() for _ in range(20)}
        callers.wait_for(50)
    assert callers.failures == []
    assert set(callers.versions) == {champion, second_model.version}
    assert "is prepared here" not in server.replica_log(), "another process prepares what a promotion brings"
    registry.rollback("purchase")


def test_a_promotion_is_taken_when_the_process_that_prepares_models_was_killed_and_that_is_started_again(server, registry, second_model):
    champion = registry.pointer("purchase", "champion")
    killed = server.preparers()
    for process in killed:
        process.kill()
    end = time.monotonic() + 90
    while not set(server.preparers()) - set(killed):
        for version, point in (
            (second_model.version, lambda: registry.promote(second_model.version)),
            (champion, lambda: registry.rollback("purchase")),
        ):
            point()
            while {server.answered_by() for _ in range(20)} != {version}:
                assert time.monotonic() < end, server.replica_log()


def test_a_model_that_ends_the_process_that_loads_it_is_refused_with_the_reason_and_no_request_fails(server, registry, second_bundle):
    """The process is killed by a signal while it loads, as a library does that reads a damaged model."""
    champion = registry.pointer("purchase", "champion")
    registry.add(second_bundle.path, name="ends-its-loader")
    with Callers(server.port) as callers:
        callers.wait_for(50)
        registry.promote("purchase/ends-its-loader")
        server.kill_loader()
        end = time.monotonic() + 90
        while server.metric("revenue_engine_models_refused") != 2:
            assert time.monotonic() < end, server.replica_log()
            callers.wait_for(20)
        refused = json.loads(server.get("/health/ready")[2])["refused"]
        callers.wait_for(50)
    assert callers.failures == []
    assert set(callers.versions) == {champion}
    assert "ends-its-loader is refused: the process that loaded purchase/ends-its-loader for a trial died" in refused["purchase"]
    registry.promote("purchase/ends-its-loader")  # which has it tried again
    end = time.monotonic() + 90
    while {server.answered_by() for _ in range(20)} != {second_bundle.version}:
        assert time.monotonic() < end, server.replica_log()
    assert settled(lambda: server.metric("revenue_engine_models_refused")) == 0
    registry.rollback("purchase")


def test_no_other_user_of_the_machine_can_reach_a_socket_or_a_log_of_the_server(server):
    """Not Ray's either, which makes its own folder open to everybody."""
    paths = [path for folder in (server.run_folder(), Path(server.home)) for path in folder.rglob("*") if path.is_socket()]
    names = {path.name for path in paths}
    assert {"listen.sock", "pool-emotion", "pool-journey", "plasma_store", "raylet"} <= names
    assert [name for name in names if name.startswith("valkey-")] or embedded.find() is None
    logs = [str(path) for path in (Path(server.home) / "logs").iterdir()]
    assert logs
    if os.geteuid() == 0:
        opened = other_user.run(OPENER, *paths, *logs)
        assert opened == ""
    for folder in (server.run_folder(), Path(server.home) / "logs", Path(server.home) / "run"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_second_server_on_the_same_home_and_port_is_refused_and_ends_nothing(server):
    family = {process.pid for process in server.family()}
    other = Live(server.home, server.registry, port=server.port)
    assert other.process.wait(60) == 1
    assert f"127.0.0.1:{server.port} is served from here already by process {server.process.pid}" in other.log.read_text()
    assert server.get("/health/ready")[0] == 200
    assert family <= {process.pid for process in server.family()}


def test_a_second_server_ends_nothing_where_the_first_is_not_recognised_though_it_answers(server):
    """As after a change of the record, of the clock, or of the machine's boot id in a container."""
    record = Path(server.home) / "run" / f"127.0.0.1-{server.port}.json"
    written = record.read_bytes()
    changed = json.loads(written)
    changed["supervisor"]["ticks"] += 150
    family = {process.pid for process in server.family()}
    record.write_text(json.dumps(changed))
    other = Live(server.home, server.registry, port=server.port)
    assert other.process.wait(90) == 1
    record.write_bytes(written)
    assert f"127.0.0.1:{server.port} still answers" in other.log.read_text()
    assert server.get("/health/ready")[0] == 200
    assert family <= {process.pid for process in server.family()}


def test_a_second_server_on_the_same_port_is_refused_and_takes_no_traffic(server, tmp_path, registry_url):
    other = Live(tmp_path, registry_url, port=server.port)
    assert other.process.wait(60) == 1
    assert f"cannot listen on 127.0.0.1:{server.port}" in other.log.read_text()
    assert server.get("/health/ready")[0] == 200


def test_scaling_up_and_down_resets_no_connection(tmp_path, registry, registry_url):
    config = tmp_path / "mine.yaml"
    config.write_text("server: {replicas: 1}")
    live = Live(tmp_path, registry_url, "--config", str(config)).wait_ready()
    with Callers(live.port) as callers:
        for wanted in (2, 1):
            callers.wait_for(30)
            config.write_text(f"server: {{replicas: {wanted}}}")
            os.kill(live.process.pid, signal.SIGHUP)
            end = time.monotonic() + 120
            while len(live.replicas()) != wanted:
                assert time.monotonic() < end, live.log.read_text()
                callers.wait_for(20)
        callers.wait_for(30)
    assert callers.failures == []
    assert "1 replicas are now 2" in live.log.read_text()
    assert live.stop() == 0


@pytest.mark.parametrize(("number", "group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_stop_answers_every_request_and_leaves_no_process(tmp_path, registry, registry_url, number, group):
    live = Live(tmp_path, registry_url).wait_ready()
    with Callers(live.port) as callers:
        callers.wait_for(50)
        code = live.stop(number, group)
    unanswered = [f for f in callers.failures if "refused" not in f.lower() and "503" not in f]
    assert (code, live.left, unanswered) == (0, [], [])


def test_a_stop_the_moment_the_first_replica_is_warm_is_as_clean(tmp_path, registry, registry_url):
    live = Live(tmp_path, registry_url, "--replicas", "2").wait_ready(printed=False)
    assert (live.stop(signal.SIGTERM, group=True), live.left) == (0, [])


def test_a_second_signal_ends_at_once_and_a_killed_run_is_cleared_by_the_next(tmp_path, registry, registry_url):
    live = Live(tmp_path, registry_url).wait_ready()
    family = live.family()
    os.kill(live.process.pid, signal.SIGKILL)
    live.process.wait(10)
    again = Live(tmp_path, registry_url, port=live.port).wait_ready()
    assert [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    os.kill(again.process.pid, signal.SIGTERM)
    code = again.stop(signal.SIGINT)
    assert (code, again.left) == (1, [])
