"""pyinfra runs this first: its settings, the checks before anything connects, the summary.

It is run, not imported, before the inventory is read.
"""

import ast
import io
import logging
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path

import click
import gevent
from pyinfra import config, inventory, logger, state
from pyinfra.api import DeployError, Host, Inventory
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_inventory, ctx_state
from pyinfra_cli import cli

from barekube import api, checks, quick, remote, summary
from barekube.operations import objects, order

config.REQUIRE_PYINFRA_VERSION = "==3.10.0"
# A failed host stops neither the others nor, by a question, the run.
config.FAIL_PERCENT = 100
cli._set_fail_prompts = lambda state, config: None
# pyinfra says its errors itself; gevent would put a traceback before each.
gevent.get_hub().NOT_ERROR += (PyinfraError,)

quick.make_pyinfra_quick()

context = click.get_current_context()
given = context.params
began = time.monotonic()


def read(path: Path) -> tuple[dict[str, object], list[str]]:
    """The names that a Python file sets, without those it imports; and why it cannot be run."""
    own: dict[str, object] = {"__file__": str(path)}
    try:
        tree = ast.parse(path.read_text())
        # The user's own inventory and group_data, which pyinfra runs in the same way.
        exec(compile(tree, str(path), "exec"), own)  # noqa: S102
    except SyntaxError as error:
        return {}, [f"{path}, line {error.lineno}: {error.msg}; correct it"]
    except Exception as error:
        lines = [at for at in traceback.extract_tb(error.__traceback__) if at.filename == str(path)]
        line = f", line {lines[-1].lineno}" if lines else ""
        return {}, [f"{path}{line}: {type(error).__name__}: {error}; correct it"]
    imported = {
        (each.asname or each.name).partition(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for each in node.names
    }
    return {
        key: value for key, value in own.items() if not key.startswith("__") and key not in imported
    }, []


def files_of_group_data(inventory: Path) -> list[Path]:
    """Those that pyinfra reads, in its order: a later one overrides."""
    folders = dict.fromkeys(
        each / "group_data" for each in (Path.cwd(), inventory.parent.resolve())
    )
    named = [Path.cwd() / each for each in given["group_data"]]
    return [
        path
        for each in (*folders, *named)
        for path in (sorted(each.glob("*.py")) if each.is_dir() else [each])
        if path.suffix == ".py" and path.is_file()
    ]


def problems_of_group_data(
    files: Iterable[Path],
    groups: Mapping[str, list[str]],
    bundles: Mapping[str, Mapping[str, object]],
    overrides: Mapping[str, object],
) -> list[str]:
    """What is wrong in group_data, and in `bundles`, the inventory's own, which build on it.

    Its files may ask for the inventory, as under pyinfra.
    """
    found = []
    everywhere: dict[str, object] = {}
    bundled: dict[str, Mapping[str, object]] = {"group_data/all.py": {}, **bundles}
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    members: dict[str, tuple[list[str], dict[str, object]]] = {
        group: (each, {}) for group, each in groups.items()
    }
    fake = Inventory((names, {}), **members)  # type: ignore[no-untyped-call]
    with ctx_inventory.use(fake):
        for path in files:
            values, unread = read(path)
            shown = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
            found += unread or checks.group_data(shown, path.stem, values, groups)
            if path.stem == "all":
                everywhere |= values
            elif "bundle_url" in values:
                bundled[shown] = values
    if found:
        return found
    found = checks.cluster(everywhere)
    for shown, some in ({"--data": {}} if "bundle_url" in overrides else bundled).items():
        found += checks.bundle(shown, {**everywhere, **some, **overrides})
    return found


def problems() -> list[str]:
    """Everything that is wrong and can be known now, a sentence each."""
    overrides, wrong = checks.overrides(given["data"])
    deploys = [each for each in given["operations"] if each.endswith(".py")]
    found = checks.options(given) + wrong + checks.unread(overrides, deploys)
    path = Path(given["inventory"])
    if path.suffix == ".py" and not path.exists():
        return [*found, f"{path} is not there; name your inventory file"]
    if not path.is_file():
        return found
    values, unread = read(path)
    if unread:
        return found + unread
    groups, wrong = checks.inventory(str(path), values)
    # pyinfra has two groups more: all, and one named like the file.
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    groups = {"all": names, path.stem: names} | groups
    bundles = checks.bundles(str(path), values)
    found += wrong + problems_of_group_data(files_of_group_data(path), groups, bundles, overrides)
    if wrong:
        # What --limit names may be in it, once it is corrected.
        return found
    for option in ("limit", "exclude"):
        found += checks.limits(f"--{option}", given[option], groups)
    return found


class Said(logging.Handler):
    """Keeps for the report what is said of each host: by our code, and by pyinfra of an error."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        # Host.log says our lines.
        if record.funcName != "log" and record.levelno < logging.ERROR:
            return
        line = click.unstyle(record.getMessage())
        name = line[1:].partition("]")[0]
        known = ctx_inventory.isset()  # type: ignore[no-untyped-call]
        if known and (host := inventory.get_host(name, None)):
            prefix = click.unstyle(host.print_prefix)
            self.lines.setdefault(name, []).append(line.removeprefix(prefix))


def host_run(host: Host, *, executed: bool) -> summary.HostRun:
    """What pyinfra knows of one host."""
    operations = []
    for key, each in state.ops[host].items():
        meta = each.operation_meta
        done = meta.is_complete()
        operations.append(
            summary.Operation(
                name=", ".join(sorted(state.op_meta[key].names)),
                succeeded=meta.did_succeed() if done else None,
                changed=done and meta.did_change(),
            )
        )
    return summary.HostRun(
        connected=host in state.activated_hosts,
        failed=host in state.failed_hosts,
        operations=operations,
        would_change=state.meta[host].ops_change,
        refused=order.refused.get(host.name, ()),
        misasked=order.misasked.get(host.name),
        unwell=order.unwell.get((executed, host.name), ()),
        said=said.lines.get(host.name, ()),
        lost=remote.lost(host),
        leaves=host.data.get("node") == host.name,
    )


def show(error: click.ClickException) -> list[str]:
    """Say what ended the run, and return it. A sentence of ours goes without the place in our
    code."""
    unexpected = getattr(error, "exception", None)
    # A deploy that includes one wraps what that one ended on once more.
    while isinstance(unexpected, click.ClickException):
        error, unexpected = unexpected, getattr(unexpected, "exception", None)
    # pyinfra gives what it did not expect no message.
    message = getattr(error, "message", None) or f"{type(unexpected).__name__}: {unexpected}"
    if isinstance(unexpected, DeployError):
        click.echo(f"--> {message}", err=True)
    elif message == "No hosts remaining!":
        # Why none remains was said of each, and the summary names them.
        return []
    else:
        error.show()
    return [message]


def end() -> None:
    """Print the summary and set the exit status; pyinfra's own is 0 far too often."""
    error = sys.exc_info()[1]
    broken_off = error is not None and not isinstance(error, SystemExit)
    unanswered = not given["yes"] and isinstance(getattr(error, "exception", None), EOFError)
    problems = show(error) if isinstance(error, click.ClickException) and not unanswered else []
    begun = ctx_state.isset() and state.initialised  # type: ignore[no-untyped-call]
    if begun and given["operations"][0] not in _NO_RUN:
        # pyinfra asks nobody before an exec.
        asks = not given["yes"] and given["operations"][0] != "exec"
        preview = given["dry"] or (given["json_output"] and asks)
        preview = preview or given["debug_operations"] or given["debug_facts"]
        executed = state.current_stage >= StateStage.Execute
        masters = state.inventory.get_group("control_plane", default=[])
        run = summary.Run(
            hosts={
                each.name: host_run(each, executed=executed)
                for each in state.inventory
                if _in_limit(each)
            },
            deploys=[each for each in given["operations"] if each.endswith(".py")],
            arguments=sys.argv[1:],
            inventory=given["inventory"],
            control_plane=masters[0].name if masters else None,
            seconds=time.monotonic() - began,
            preview=preview,
            broken_off=broken_off or not (preview or executed),
            executed=executed,
            unanswered=unanswered,
            without_api=api.silent if preview else (),
            left_over=objects.left_over,
            problems=problems,
            storage=bool(state.inventory.get_group("storage", default=[])),
        )
        if report is not None:
            sys.stdout = sys.__stdout__
            click.echo(summary.with_plan(report.getvalue(), run))
        click.echo("--> Summary:", err=True)
        for line in summary.lines(run):
            click.echo(f"    {line}", err=True)
        sys.exit(summary.status(run))
    if isinstance(error, click.ClickException):
        if report is not None:
            click.echo(summary.without_run(problems), file=sys.__stdout__)
        sys.exit(1)


def _in_limit(host: Host) -> bool:
    return bool(state.is_host_in_limit(host))


_NO_RUN = ("debug-inventory", "fact")

# With --json standard output is one JSON document: pyinfra's, with our summary of a run in it.
captured = given["json_output"] and given["operations"][0] not in _NO_RUN
report = io.StringIO() if captured else None
if report is not None:
    sys.stdout = report

if wrong := problems():
    for sentence in wrong:
        click.echo(f"--> {sentence}", err=True)
    click.echo("--> Nothing was connected to, and nothing was changed.", err=True)
    if given["json_output"]:
        click.echo(summary.without_run(wrong), file=sys.__stdout__)
    sys.exit(1)
said = Said()
logger.addHandler(said)
context.call_on_close(end)
