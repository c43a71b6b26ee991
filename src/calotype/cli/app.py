"""The verbs, put together. Imports Typer and nothing heavier: every verb imports its job when it runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from calotype import __version__
from calotype.cli import components, data, demo, evaluate, recipes, reconstruct, sample, study, train
from calotype.errors import UserError

_UsageError: Any = typer.BadParameter.__base__
"""What Typer raises for words that make no sense; where it lives differs between versions, what it is does not."""


class _Verbs(TyperGroup):
    """The verbs in the order in which a newcomer wants them; mistakes and Ctrl-C end as `cli.main` promises."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run; raises `UserError` for an option or argument that makes no sense, in place of Typer's box."""
        try:
            return super().main(*args, **(extra | {"standalone_mode": False}))
        except _UsageError as error:
            told = error.format_message()
            if not told:  # no words at all: the help page has been printed
                raise SystemExit(error.exit_code) from error
            page = error.ctx.command_path if error.ctx is not None else "calotype"
            told = told[0].lower() + told[1:].rstrip(".")
            raise UserError(f"{told}{' ' if told.endswith('?') else '; '}`{page} --help` says more") from error

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the help page."""
        making = ["sample", "edit", "inpaint", "upscale", "synthesize", "layout"]
        return ["demo", "data", "train", *making, "reconstruct", "evaluate", "study", "recipes", "components"]

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; Ctrl-C ends with 130, as shells expect."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Start with: calotype demo",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"calotype {__version__}")
        raise typer.Exit()


@app.callback()
def calotype(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of mistakes; may stand anywhere.")] = False,
) -> None:
    """Calotype: latent diffusion, the whole chain.

    Train an autoencoder and a diffusion model on your own pictures, then develop new ones out of noise.
    """


app.command()(demo.demo)
app.add_typer(train.app, name="train")
for verb in (sample.sample, sample.edit, sample.inpaint, sample.upscale, sample.synthesize, sample.layout):
    app.command()(verb)
app.command()(reconstruct.reconstruct)
app.command()(evaluate.evaluate)
app.command()(study.study)
app.add_typer(data.app, name="data")
app.command()(recipes.recipes)
app.command()(components.components)
