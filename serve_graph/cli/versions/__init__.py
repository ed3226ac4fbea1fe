"""`serve-graph versions …`: list, show and review registered versions, and move aliases; one file per group."""

from __future__ import annotations

import typer

from serve_graph.cli.versions import aliases, calibrate, diff, gc, listing, reviewing, rollout_status, rollouts, served

app = typer.Typer(help="Review router versions and move their aliases.", no_args_is_help=True, rich_markup_mode=None)
app.command("list")(listing.list_)
app.command()(listing.show)
app.command()(diff.diff)
app.command()(calibrate.calibrate)
app.command()(reviewing.approve)
app.command()(reviewing.reject)
app.command()(aliases.promote)
app.command()(aliases.rollback)
app.command()(gc.gc)
app.command("status")(served.show_served)
app.command()(rollouts.canary)
app.command()(rollouts.shadow)
app.command("rollout")(rollout_status.show_rollout)
app.command("pause")(rollouts.pause_rollout)
app.command("resume")(rollouts.resume_rollout)
app.command("set-weight")(rollouts.set_weight)
app.command("abort")(rollouts.abort_rollout)
