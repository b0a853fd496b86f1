"""When a machine is rebooted."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from barekube.facts.maintain import UpkeepFact
from barekube.maintain import Upkeep, reboot_reason, report

NONE = Upkeep("6.1.0-40-amd64", 1000, {}, False, ())


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        pytest.param(NONE, None, id="nothing"),
        pytest.param(replace(NONE, required=True), "/run/reboot-required is there", id="asked for"),
        pytest.param(
            Upkeep("6.1.0-9-amd64", 1000, {"6.1.0-40-amd64": 2000}, False, ()),
            "kernel 6.1.0-9-amd64 runs and 6.1.0-40-amd64 is installed",
            id="a newer kernel",
        ),
        pytest.param(
            Upkeep("6.1.0-9-amd64", 1000, {"6.1.0-40-amd64": 500}, False, ()),
            None,
            id="a newer kernel that the last boot did not choose",
        ),
        pytest.param(
            Upkeep("6.12.25+rpt-rpi-v8", 1000, {"6.12.34+rpt-rpi-2712": 2000}, False, ()),
            None,
            id="another machine's kernel",
        ),
        pytest.param(
            Upkeep("6.1.0-40-amd64", 1000, {"6.1.0-9-amd64": 2000}, False, ()),
            None,
            id="an older kernel",
        ),
    ],
)
def test_a_reboot_has_a_reason(host: Upkeep, reason: str | None) -> None:
    assert reboot_reason(host) == reason


def test_what_is_to_do_is_said_with_the_data_that_does_it() -> None:
    said = ["running 6.1.0-9-amd64", "booted 1000", "required /run/reboot-required"]
    said += ["kernel 6.1.0-9-amd64 500", "upgrade openssl", "upgrade libssl3", "end"]
    assert report(UpkeepFact().process(said)) == [
        "2 packages can be upgraded (openssl, libssl3); --data packages=true does it",
        "a reboot is due (/run/reboot-required is there); --data reboot=true does it",
    ]
    idle = ["running 6.1.0-9-amd64", "booted 1000", "end"]
    assert report(UpkeepFact().process(idle)) == [
        "nothing is due by the package lists it has; --data packages=true renews them"
    ]


@pytest.mark.parametrize(
    ("apt", "upgradable", "broken"),
    [
        ("echo 'Inst linux-image-amd64 [6.1-1] (6.1-2 x)'; echo 'Conf x'", 1, False),
        # A half-installed package: nothing is said on stdout, and apt fails.
        ("echo 'E: Unmet dependencies.' >&2; exit 100", 0, True),
    ],
)
def test_what_apt_cannot_say_is_not_taken_for_nothing(
    tmp_path: Path, apt: str, upgradable: int, broken: bool
) -> None:
    program = tmp_path / "apt-get"
    program.write_text(f"#!/bin/sh\n{apt}\n")
    program.chmod(0o755)
    script = UpkeepFact().command().get_raw_value()
    run = ["sh", "-c", f"PATH={tmp_path}:$PATH; {script}"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    found = UpkeepFact().process(done.stdout.splitlines())
    assert (len(found.upgradable), found.broken) == (upgradable, broken)
    assert any("half installed" in each for each in report(found)) is broken
