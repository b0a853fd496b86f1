"""Power cuts over a whole site.py that starts from bare machines; run by name, hours long.

    .venv/bin/python -m pytest tests/drills/test_power_cuts.py -s

BAREKUBE_SEED chooses the moments and hosts (it is printed), BAREKUBE_CUTS how many there are.
"""

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.lab.conftest import PYINFRA, Run
from tests.lab.recorder import repository_root

LAB = [".venv/bin/python", "-m", "lab"]
SEED = os.environ.get("BAREKUBE_SEED", "1")
CUTS = int(os.environ.get("BAREKUBE_CUTS", "20"))
LOGS = Path.home() / ".cache/barekube/drills"
# How long site.py takes from bare machines here, in seconds.
WHOLE_RUN = 240
NAMES = ["cp-1", "worker-1", "worker-2"]


def _lab(*words: str) -> None:
    subprocess.run([*LAB, *words], cwd=repository_root(), check=True, timeout=600)


def _site(*words: str) -> Run:
    began = time.monotonic()
    done = subprocess.run(
        [*PYINFRA, "deploys/site.py", *words],
        cwd=repository_root(),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    return Run(done, time.monotonic() - began)


@pytest.mark.parametrize("number", range(CUTS))
def test_a_run_that_lost_a_hosts_power_is_finished_by_the_next(number: int) -> None:
    chance = random.Random(f"{SEED}-{number}")
    # Spread over the whole run: each cut has its own share of it.
    moment = (number + chance.random()) * WHOLE_RUN / CUTS
    name = chance.choice(NAMES)
    print(f"\nseed {SEED}, cut {number}: {name} after {moment:.1f} s", flush=True)
    _lab("down")
    _lab("up")
    run = subprocess.Popen(
        [*PYINFRA, "deploys/site.py", "-y"],
        cwd=repository_root(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    time.sleep(moment)
    _lab("power-off", name)
    said, _ = run.communicate(timeout=900)
    LOGS.mkdir(parents=True, exist_ok=True)
    (LOGS / f"{SEED}-{number}-cut.log").write_text(said)
    assert "Traceback" not in said, said[-6000:]
    _lab("power-on", name)
    again = _site("-y")
    (LOGS / f"{SEED}-{number}-again.log").write_text(again.text)
    print(f"  re-run: {again.seconds:.0f} s, status {again.status}", flush=True)
    assert again.status == 0, again.text[-8000:]
    assert _site("--dry", "--json").would_change() == {}
