"""Three control planes go from one minor to the next: how long the API is away; by name.

    .venv/bin/python -m bundle build --kubernetes 1.36.3
    .venv/bin/python -m pytest tests/drills/test_upgrade_ha.py -s

On the lab, which it takes down first. Each gap is printed, the longest, and their sum.
"""

import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from barekube import versions
from tests.drills.test_ha import (
    EXTRA,
    LOGS,
    MASTERS,
    Client,
    _pyinfra,
    counting,
    deployed,
    through_worker,
)
from tests.lab.recorder import ssh

__all__ = ["through_worker"]

OLD, NEW = versions.FORMER["kubernetes"], versions.KUBERNETES
LONGEST = 5
PACE = 1


@pytest.fixture(scope="module")
def three() -> Iterator[None]:
    """The lab with three control planes of the former version."""
    with deployed(MASTERS, "--data", f"kubernetes_version={OLD}"):
        yield


class Gaps(Client):
    """A write each second, whether or not the former ones have ended, each by a connection
    of its own; 10 s for an answer, never tried again.

    A gap is a time in which none of them got through, from the first to the last: one that hangs
    at one control plane hides nothing of the two others.
    """

    def __init__(self) -> None:
        super().__init__(keeps=False)
        self.ends: list[float] = []

    def _write(self) -> None:
        why = self._call()
        if why:
            self.failed.append(why)
        else:
            self.ends.append(time.monotonic())

    def run(self) -> None:
        calls = []
        self.ends.append(time.monotonic())
        while not self._end.wait(PACE):
            self.calls += 1
            calls.append(threading.Thread(target=self._write, daemon=True))
            calls[-1].start()
        self.ends.append(time.monotonic())
        for call in calls:
            call.join()

    def stop(self) -> None:
        self._end.set()
        self.join(30)

    def gaps(self) -> list[float]:
        """The times without an answer, in seconds, that are longer than two calls take."""
        between = [after - before for before, after in pairwise(sorted(self.ends))]
        return [gap for gap in between if gap > 2 * PACE]


def test_the_api_is_never_away_for_longer_than_five_seconds(through_worker: None) -> None:
    client = Gaps()
    # So soon after site.py two cores are busy with four machines still.
    time.sleep(60)
    with counting(client):
        run = _pyinfra(EXTRA, "deploys/upgrade.py", "-y")
        (LOGS / "upgrade-ha.log").write_text(run.text)
    gaps = client.gaps()
    longest = max(gaps, default=0.0)
    listed = ", ".join(f"{gap:.1f}" for gap in gaps) or "none"
    print(f"\n  upgrade: {run.seconds:.0f} s; gaps of the API: {listed}", flush=True)
    print(f"  longest {longest:.1f} s (goal: {LONGEST}), in all {sum(gaps):.1f} s", flush=True)
    print(f"  {len(client.failed)} of {client.calls} writes without a retry failed", flush=True)
    for why in client.failed:
        print(f"    {why}", flush=True)
    assert run.status == 0, run.text[-8000:]
    assert client.calls > run.seconds / PACE / 2, "the client has slept"
    assert longest <= LONGEST
    words = "get nodes -o jsonpath={.items[*].status.nodeInfo.kubeletVersion}"
    runs = ssh("cp-1", f"kubectl --kubeconfig /etc/kubernetes/admin.conf {words}")
    assert set(runs.split()) == {f"v{NEW}"}
