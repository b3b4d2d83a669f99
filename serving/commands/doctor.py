"""`revenue-engine doctor`: what is here, what is missing, and the command that fixes it."""

from dataclasses import asdict

import typer

from serving.commands.options import Config, Json, Quiet, Report, Seed, choices

_MARKS = {True: "ok", False: "MISSING"}


def doctor(
    ctx: typer.Context,
    config: Config = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Report:
    """Report what is here, what is missing, and the command that fixes it.

    Exit code 0 if the server could start, else 1.
    """
    choices(ctx, seed, as_json, quiet)
    from serving import settings
    from serving.runtime.doctor import examine

    findings = examine(settings.load(config))
    stops = [finding.name for finding in findings if finding.needed and not finding.ok]
    width = max(len(finding.name) for finding in findings)
    lines = [f"{_MARKS[f.ok]:7}  {f.name:{width}}  {f.found}" + ("" if f.ok else f"\n{'':{width + 9}}  fix: {f.fix}") for f in findings]
    result = f"the server cannot start without {', '.join(stops)}; checked" if stops else "the server can start; checked"
    data = {"ready": not stops, "findings": [asdict(finding) for finding in findings]}
    return Report(result, lines=lines, data=data, code=1 if stops else 0)
