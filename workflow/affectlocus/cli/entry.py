"""The command line: the list of commands, which are defined in the other modules of this room.

These modules import nothing heavy. A command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from affectlocus.cli.answers import evaluate, extract, openset
from affectlocus.cli.checkpoints import convert, graft, verify
from affectlocus.cli.claims import claims
from affectlocus.cli.deltas import deltas, diff, trajectory
from affectlocus.cli.experiment import check, pin, plan, schema
from affectlocus.cli.figures import figures
from affectlocus.cli.forecasts import forecast
from affectlocus.cli.imports import import_task
from affectlocus.cli.init import init
from affectlocus.cli.learning import learning
from affectlocus.cli.materials import (
    corpus,
    encoders,
    prepare,
    pretrain,
    retrieve,
    senses,
    wheels,
)
from affectlocus.cli.mechanism import activations, directions, ledger, neurons
from affectlocus.cli.media import encode
from affectlocus.cli.places import percentiles, places
from affectlocus.cli.reports import compare, report, revisions, show
from affectlocus.cli.runs import decide, doctor, run, targets
from affectlocus.cli.scores import collect, fluency, probes, score, tables
from affectlocus.cli.smallest import frontier, smallest
from affectlocus.cli.tunings import tune
from affectlocus.core.errors import exit_on_error, write_traceback
from affectlocus.core.extras import explained, needed
from affectlocus.core.stop_signals import Stopped, install_handlers
from affectlocus.core.version import __version__

# Libraries that are checked before the step reads anything; other steps check at their imports.
_NEEDED = {
    "pretrain": ("torch", "transformers"),
    "encoders": ("torch", "transformers"),
    "encode": ("torch", "transformers"),
    "tune": ("torch", "transformers", "peft"),
    "forecast": ("torch", "transformers", "peft"),
    "evaluate": ("torch", "transformers"),
    "places": ("torch", "transformers"),
    "smallest": ("torch", "transformers"),
    "extract": ("torch", "transformers"),
    "activations": ("torch", "transformers"),
    "run": ("snakemake",),
    "decide": ("snakemake",),
}

# Commands that may access the network. Jobs read the files that retrieve and wheels downloaded.
_ONLINE = ("retrieve", "wheels", "diff", "check", "score", "pin", "run", "decide", "doctor", "init")


# The groups of the help, and their commands in order. A command that is in none is a step of the
# workflow.
_GROUPS = {
    "Start": ("init", "check", "run", "show", "report", "targets", "plan"),
    "Experiments": (
        *("doctor", "forecast", "decide", "compare", "claims", "revisions", "import-task", "pin"),
        "schema",
    ),
    "Checkpoints, without an experiment": ("diff", "convert", "graft", "verify", "ledger"),
}
_STEPS = "Steps of the workflow"


class _Groups(TyperGroup):
    """The list of commands in groups."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        grouped = [name for names in _GROUPS.values() for name in names]
        steps = tuple(name for name in self.list_commands(ctx) if name not in grouped)
        for title, names in (_GROUPS | {_STEPS: steps}).items():
            commands = {name: self.get_command(ctx, name) for name in names}
            rows = [
                (name, one.get_short_help_str(limit=200))
                for name, one in commands.items()
                if one is not None
            ]
            with formatter.section(title):
                formatter.write_dl(rows)


class _Step(TyperCommand):
    """A command that names the missing extra if a library cannot be imported."""

    def invoke(self, ctx: Any) -> Any:
        for module in _NEEDED.get(str(ctx.info_name), ()):
            needed(module, f"affectlocus {ctx.info_name}")
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            sentence = explained(error, f"affectlocus {ctx.info_name}")
            if sentence is None:
                raise
            raise sentence from None


app = typer.Typer(
    cls=_Groups,
    help=(
        "Measure where a fine-tune changed a model, and whether this place causes its effect.\n\n"
        "Begin with: affectlocus init BASE TUNED DATA.csv, and then affectlocus run. The workflow "
        "runs the steps for you. By hand, in this order: corpus or retrieve, pretrain, (encode,) "
        "prepare, tune, deltas, evaluate, (extract, openset,) score, tables, figures. "
        "COMMAND --help says what it reads and writes."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# In the order of the help.
for _command in (
    init,
    corpus,
    senses,
    encoders,
    retrieve,
    wheels,
    pretrain,
    import_task,
    encode,
    prepare,
    probes,
    forecast,
    tune,
    deltas,
    trajectory,
    learning,
    diff,
    convert,
    ledger,
    neurons,
    directions,
    activations,
    evaluate,
    places,
    percentiles,
    smallest,
    frontier,
    extract,
    openset,
    score,
    tables,
    figures,
    fluency,
    collect,
    claims,
    revisions,
    report,
    compare,
    show,
    check,
    plan,
    targets,
    run,
    decide,
    doctor,
    pin,
    schema,
    graft,
    verify,
):
    app.command(cls=_Step)(_command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"affectlocus {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
    cards: Annotated[
        int,
        typer.Option(
            min=0,
            help="number of GPUs to reserve for this command on a host with several; GPUs that a "
            "scheduler has set in CUDA_VISIBLE_DEVICES are used as they are",
        ),
    ] = 0,
) -> None:
    if context.invoked_subcommand not in _ONLINE:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    held = None
    if cards:
        from affectlocus.orchestration.gpu_lease import lease

        # Before torch is imported, because CUDA lists the GPUs only once.
        held = lease(cards, waiting=lambda text: typer.echo(f"affectlocus: {text}", err=True))
        os.environ["AFFECTLOCUS_CARDS"] = str(cards)  # devices.CARDS
    if os.environ.get("AFFECTLOCUS_JOB"):
        from affectlocus.core.job_header import write_header
        from affectlocus.orchestration.run_lock import working

        working()

        write_header(str(context.invoked_subcommand), sys.argv[1:], held.cards if held else ())


def main() -> None:
    """Runs the command line.

    Bad input ends with one sentence and exit code 1, a stop signal with one sentence and exit code
    143 (SIGTERM) or 130 (SIGINT).
    """
    # The traceback of a bug may quote secrets.
    sys.excepthook = write_traceback
    install_handlers()
    try:
        exit_on_error(_called)
    except Stopped as stopped:
        sys.stderr.write(f"affectlocus: {stopped}\n")
        raise


def _called() -> None:
    """Calls the command. Arguments after -- of `run` are for Snakemake; click would drop the --."""
    words = sys.argv[1:]
    if words[:1] == ["run"] and "--" in words:
        at = words.index("--")
        app(words[:at], obj=words[at + 1 :])
    else:
        app()
