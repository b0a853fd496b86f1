"""As many converged machines of the @fake connector as BAREKUBE_BENCH_HOSTS says."""

import os as _os

from tests.plan import machines as _machines

_count = int(_os.environ["BAREKUBE_BENCH_HOSTS"])
_machines.ALL[:] = [(f"metal-{n}", f"192.0.2.{10 + n}", n == 1) for n in range(1, _count + 1)]
_data = {
    "package_sources": _machines.package_sources(),
    "fake_delay": float(_os.environ["BAREKUBE_BENCH_DELAY"]),
    "fake_delay_jitter": 0,
}


def _host(name: str, address: str) -> tuple[str, dict[str, object]]:
    known_as, data = _machines.converged(name, address)
    return known_as, {**data, **_data}


_all = [_host(name, address) for name, address, _ in _machines.ALL]
control_plane, workers = _all[:1], _all[1:]
