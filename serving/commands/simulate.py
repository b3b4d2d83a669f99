"""`revenue-engine simulate`: the simulated shop, with its truth."""

from pathlib import Path
from typing import Annotated

import typer

from serving.commands.options import Json, Quiet, Report, Seed, choices
from serving.errors import OutputError
from serving.progress import shown


def simulate(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="Folder to write: new or empty.", show_default=False)],
    sessions: Annotated[int, typer.Option("--sessions", min=1, metavar="N", help="How many sessions.", show_default=False)],
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Report:
    """Write a simulated shop, with its truth.

    Events, sessions (a training table), customers, products, sales and truth as Parquet, and requests.ndjson.
    """
    chosen = choices(ctx, seed, as_json, quiet)
    from training.datasets.shop import shop

    if out.exists() and (not out.is_dir() or any(out.iterdir())):  # before the work, not after it
        raise OutputError(f"{out} exists and is not an empty folder; name one that is empty or does not exist")
    with shown(chosen.quiet or chosen.as_json) as progress:
        simulated = shop.simulate(sessions, chosen.seed or 0, progress)
        shop.write(simulated, out)
    files = sorted(path.name for path in out.iterdir())
    return Report(
        f"simulated {sessions:,} sessions (seed {chosen.seed or 0}) into {out}: {', '.join(files)}",
        data={"out": str(out), "sessions": sessions, "seed": chosen.seed or 0, "files": files},
    )
