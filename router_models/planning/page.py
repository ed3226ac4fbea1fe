"""Render a plan as a Markdown page that can be forwarded as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from router_models.planning.evidence_page import (
    capacity_section,
    labels_section,
    plan_slices_section,
    signals_section,
    what_ifs_section,
)
from router_models.planning.expected import Expected, right_difference
from router_models.planning.plan import Option, Plan
from router_models.pricing.prices import plain_decimal
from router_models.pricing.tier_costs import TierCosts
from router_models.reports.headline import three_numbers
from router_models.reports.markdown import dollars, percent, sentence, spread, table

SMALL_USD_PER_MONTH = 100
"""Savings below this are real but not worth the work: the page says so beside the answer."""


@dataclass(frozen=True, slots=True)
class Context:
    """Hold what the page says of its own origin.

    Parameters
    ----------
    title, source, made_at, command, machine : str
        Its title, the file, the date, the command and the machine, in words.
    terms : mapping of str to TierCosts
        Prices and assumptions by tier.
    conditions : str
        Which conditions of the prompts a certificate would cover, as Markdown; empty: no outcomes are recorded.
    """

    title: str
    source: str
    made_at: str
    command: str
    machine: str
    terms: Mapping[str, TierCosts]
    conditions: str = ""


def plan_page(plan: Plan, context: Context) -> str:
    """Render the whole page.

    Parameters
    ----------
    plan : Plan
        The plan.
    context : Context
        Its origin.

    Returns
    -------
    str
        Markdown.
    """
    work = plan.workload
    parts = [
        f"# {context.title}",
        _made(plan, context),
        "## Answer",
        _answer(plan),
        "## What it assumes",
        _assumptions(plan, context),
        f"## Does trying {work.cheap} first pay?",
        _pays(plan),
        "## The patterns, side by side",
        _patterns(plan),
        "## What the tiers carry" if plan.busiest is not None else "",
        capacity_section(plan),
        "## Which signals tell right from wrong",
        signals_section(plan),
        "## How many labels for which promise",
        labels_section(plan),
        "## What a certificate would cover" if context.conditions else "",
        context.conditions,
        "## What would change the answer",
        what_ifs_section(plan),
        "## Where it holds, and where not",
        plan_slices_section(plan),
        "## What this page does not show",
        _limits(plan),
        "## Next",
        _next(plan),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _made(plan: Plan, context: Context) -> str:
    work = plan.workload
    digest = f", sha256 of the content {work.content_hash[:16]}" if work.content_hash else ""
    ground = "recorded outcomes" if work.labelled else "a described traffic mix, no outcome recorded yet"
    return (
        f"Made {context.made_at} from {context.source} on {context.machine}. {len(work):,} prompts, {ground}{digest}."
        f"\n\n```\n{context.command}\n```"
    )


def _answer(plan: Plan) -> str:
    answer, work = plan.answer, plan.workload
    reasons = [f"- {sentence(reason)}" for reason in answer.reasons]
    if answer.pattern is None:
        return "\n".join([f"**{answer.headline}**", "", _stake(plan), "", *reasons])
    option = plan.option(answer.pattern)
    lines = [
        f"**{answer.headline}**",
        "",
        *_three(plan, option),
        "",
        f"{_stake(plan)}{_small(plan, option)}",
        "",
        f"- How: {sentence(option.operated.pattern.what)}",
        *reasons,
    ]
    figures, (cheap, frontier, random, length) = option.figures, plan.beside[:4]
    over = right_difference(figures, length)
    points = spread(over, 100, 1)
    lines += [
        f"- Right {percent(figures.right)}, against {percent(frontier.right)} from {work.frontier} alone and "
        f"{percent(cheap.right)} from {work.cheap} alone.",
        f"- With the same share of {work.cheap} answers at random {random.right.value:.1%} would be right, picked by "
        f"prompt length {length.right.value:.1%}: {answer.pattern} is {points} points better than length"
        + ("." if over.low > 0 else ", which is **not more than chance: sending short prompts down does as well**."),
    ]
    if figures.kept_risk is not None and figures.kept_risk_upper is not None:
        sure = "measured" if work.labelled else "assumed"
        lines.append(
            f"- Of the {work.cheap} answers kept {figures.kept_risk:.1%} are {plan.budget.words(work.frontier)} "
            f"({sure}; at most {figures.kept_risk_upper:.1%} with 95 % confidence); the budget is "
            f"{plan.budget.epsilon:.1%}."
        )
    if figures.p50_s is not None and frontier.p50_s is not None:
        lines.append(
            f"- Latency p50 {figures.p50_s:.2f} s, p95 {figures.p95_s:.2f} s; {work.frontier} alone "
            f"{frontier.p50_s:.2f} s and {frontier.p95_s:.2f} s."
        )
    lines.append(f"- Thresholds found: {_thresholds(plan, answer.pattern)}; `certify` places those that are served.")
    return "\n".join(lines)


def _three(plan: Plan, option: Option) -> list[str]:
    """Return the three numbers that lead: the bound, the difference in right answers, the net cost saved."""
    figures, budget = option.figures, plan.budget
    drop, saving = figures.drop, figures.saving
    right = (-drop.value, -drop.high, -drop.low)
    bound = f"{budget.what} <= {budget.epsilon:g}: {option.operated.why}"
    if option.operated.certified:
        bound += f", {1 - budget.delta:.0%} confidence"
    lines = three_numbers(bound, right, (saving.value, saving.low, saving.high), plan.workload.frontier)
    return [f"{i}. {line}" for i, line in enumerate(lines, 1)]


def _stake(plan: Plan) -> str:
    """Return the question in two figures per tier."""
    work = plan.workload
    cheap, frontier = plan.beside[:2]
    per_day = f"{plan.demand.per_day:,.0f} requests a day"
    return (
        f"The question: may {work.cheap} ({dollars(cheap.usd_per_1000.value)} per 1,000 requests, "
        f"{cheap.right.value:.0%} right) answer a part of {per_day} that {work.frontier} "
        f"({dollars(frontier.usd_per_1000.value)}, {frontier.right.value:.0%} right) would answer otherwise?"
    )


def _small(plan: Plan, option: Option) -> str:
    """Return a remark where the saving is too small to be worth the effort."""
    per_1000 = plan.beside[1].usd_per_1000.value - option.figures.usd_per_1000.value
    month = 30 * plan.demand.per_day * per_1000 / 1000
    if month >= SMALL_USD_PER_MONTH:
        return ""
    return f" **At these prices that is worth {dollars(month)} a month: too little to run anything for.**"


def _assumptions(plan: Plan, context: Context) -> str:
    budget, extra = plan.budget, plan.extra
    rows = [["tier", "$ per million tokens: in, out, cached", "batch", "cached share", "token ratio"]]
    for tier, terms in context.terms.items():
        price = terms.price
        cached = price.cached_input_usd_per_mtok
        batch = f"{terms.batch_share:.0%} of calls at × {terms.batch_factor:g}" if terms.batch_share else "none"
        share = "as recorded" if terms.cached_share is None else f"{terms.cached_share:.0%}"
        in_, out = plain_decimal(price.input_usd_per_mtok), plain_decimal(price.output_usd_per_mtok)
        rates = f"{in_}, {out}, {'as input' if cached is None else plain_decimal(cached)}"
        rows.append([tier, rates, batch, share, f"{terms.token_ratio:g}"])
    drop = (
        "" if budget.max_drop is None else f"; the share right falls by at most {100 * budget.max_drop:g} points too"
    )
    notes = [
        f"{plan.demand.per_day:,.0f} requests a day; under {plan.demand.least_per_day:,.0f} routing is not worth it.",
        f"Quality budget: of the {plan.workload.cheap} answers kept at most {budget.epsilon:.1%} "
        f"{budget.words(plan.workload.frontier)}, with {1 - budget.delta:.0%} confidence{drop}.",
        f"A decision costs ${plain_decimal(Decimal(f'{extra.router_usd:.2g}'))} and {1000 * extra.router_s:g} ms, a "
        f"verdict ${plain_decimal(Decimal(f'{extra.verifier_usd:.2g}'))} and {1000 * extra.verifier_s:g} ms.",
        *plan.workload.notes,
    ]
    return table(rows) + "\n\n" + "\n".join(f"- {note}" for note in notes)


def _pays(plan: Plan) -> str:
    rows = [["pattern", "cheap call + router + verifier", "frontier call", "break-even p*", "escalated p", "pays"]]
    for option in plan.options:
        even = option.even
        rows.append(
            [
                option.name,
                f"${1000 * even.cheap_usd:.4g} per 1,000",
                f"${1000 * even.frontier_usd:.4g} per 1,000",
                f"{even.p_star:.1%}",
                f"{even.p:.1%}" if option.operated.accept_at is not None else "– (nothing is tried twice)",
                "yes" if even.pays else "no",
            ]
        )
    text = (
        "A try is worth making while the share p of tries that must be repeated on the frontier stays under "
        "p* = 1 − (cheap + router + verifier) / frontier. Both are taken over the requests each pattern tries."
    )
    paying = [o.name for o in plan.options if o.even.pays and not o.operated.pattern.needs]
    verdict = f"Yes, for {', '.join(paying)}." if paying else "No: every try that fails costs more than tries save."
    return f"**{verdict}** {text}\n\n{table(rows)}"


def _patterns(plan: Plan) -> str:
    rows = [["", "cost, $ per 1,000", "saved, %", "right, %", "points lost", "kept, %", "p50 s", "p95 s", "promise"]]
    for option in plan.options:
        promise = _ground(plan, option)
        name = f"**{option.name}**" if option.name == plan.answer.pattern else option.name
        rows.append([name, *_row(option.figures), promise])
    rows += [[figures.name, *_row(figures), ""] for figures in plan.beside]
    explained = [f"- {o.name}: {o.operated.pattern.what}. {sentence(_promise(plan, o.name))}" for o in plan.options]
    chosen = int(plan.workload.choosing.sum())
    shown = (
        f"Intervals are 95 % bootstrap over the {len(plan.workload) - chosen:,} evidence prompts (2,000 draws, shared "
        f"by all rows). Thresholds were chosen on the other {chosen:,}. Random and length keep as much on "
        f"{plan.workload.cheap} as {plan.shown} does."
    )
    return "\n\n".join([table(rows), shown, "\n".join(explained)])


def _ground(plan: Plan, option: Option) -> str:
    """What a pattern's figures rest on, in a word."""
    if option.operated.pattern.needs:
        return "not served"
    if option.operated.certified:
        return "certified"
    return "none" if plan.workload.labelled else "assumed"


def _promise(plan: Plan, name: str) -> str:
    operated = plan.option(name).operated
    if operated.pattern.needs:
        return f"never recommended: {operated.pattern.needs}"
    return f"{_thresholds(plan, name)}; {operated.why}"


def _thresholds(plan: Plan, name: str) -> str:
    operated = plan.option(name).operated
    found = []
    if operated.route_at is not None:
        found.append(f"try at an estimate ≥ {operated.route_at:.3f}")
    if operated.accept_at is not None:
        found.append(f"keep at ≥ {operated.accept_at:.3f}")
    return ", ".join(found)


def _limits(plan: Plan) -> str:
    served = sum(not option.operated.pattern.needs for option in plan.options)
    notes = [
        "It is a plan, not a certificate: `serve-graph certify` makes that, on labels nothing else has seen.",
        f"Each of the {served} patterns that can be served was tested at δ / {served}, so the one picked keeps δ."
        if served != 1
        else "One pattern can be served; it was tested at δ.",
        "Latencies are of single requests as recorded or assumed, not under load: see `serve-graph simulate`.",
        "A prompt farther from the training data than 95 of 100 goes to the last tier when served: what is kept and "
        "saved here is about a twentieth more than that.",
        "Figures hold for traffic like the sample. New subjects, other prompts or a changed model void them.",
    ]
    if not plan.workload.labelled:
        notes[1] = "Nothing is measured: intervals show the sampling of a mix this size, not doubt about its figures."
    return "\n".join(f"- {note}" for note in notes)


def _next(plan: Plan) -> str:
    if plan.answer.pattern is None and plan.answer.serve is not None:
        return f"Serve {plan.answer.serve} alone, and plan again when prices, volume or models change."
    steps = [
        "`serve-graph collect`: record outcomes of both tiers on your own prompts"
        + (" (done for these)" if plan.workload.labelled else ""),
        "`serve-graph train`, then `serve-graph certify`: the operating point with its certificate",
        "`serve-graph simulate`: queues and tail latency at your arrival rate",
    ]
    return "\n".join(f"{i}. {step}" for i, step in enumerate(steps, 1))


def _row(figures: Expected) -> list[str]:
    seconds = ["–" if s is None else f"{s:.2f}" for s in (figures.p50_s, figures.p95_s)]
    return [
        f"{figures.usd_per_1000.value:.4g}",
        spread(figures.saving, 100, 0),
        spread(figures.right, 100, 1),
        spread(figures.drop, 100, 1),
        f"{100 * figures.kept:.0f}" if figures.kept > 0 else "–",
        *seconds,
    ]
