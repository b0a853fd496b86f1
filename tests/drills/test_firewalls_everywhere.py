"""A cluster whose hosts all have the firewall. Run by name, on the lab as `make lab` leaves it."""

import json
import subprocess

from barekube import firewall
from tests.lab.conftest import Deploy
from tests.lab.recorder import ssh

STAGE = ["deploys/host.py", "-y"]
SHOW = f"nft list table {firewall.TABLE} 2>/dev/null || echo none"


def test_a_cluster_works_behind_firewalls_everywhere_and_admins_come_from_trusted_networks(
    deploy: Deploy, kubectl: list[str]
) -> None:
    version = [*kubectl, "get", "--raw", "/version", "--request-timeout=5s"]
    try:
        done = deploy(*STAGE, "--data", "firewall=true")
        assert done.status == 0, done.text[-4000:]
        assert subprocess.run(version, capture_output=True, check=False).returncode != 0
        # Pods, Services, NodePorts, hostPorts and policies, between every pair of nodes.
        done = deploy("deploys/verify.py", "-y")
        assert done.status == 0, done.text[-4000:]
        here = json.loads(
            subprocess.run(
                ["ip", "-j", "route", "get", "10.77.0.11"], capture_output=True, check=True
            ).stdout
        )[0]["prefsrc"]
        trusted = ["--data", f'firewall_trusted=["{here}/32"]']
        assert deploy(*STAGE, "--data", "firewall=true", *trusted).status == 0
        assert subprocess.run(version, capture_output=True, check=False).returncode == 0
    finally:
        assert deploy(*STAGE).status == 0
    for name in ("cp-1", "worker-1"):
        left = f"ls {firewall.FILE} {firewall.UNIT_FILE} {firewall.UNDO} 2>/dev/null || true"
        assert ssh(name, SHOW) + ssh(name, left) == "none\n"
