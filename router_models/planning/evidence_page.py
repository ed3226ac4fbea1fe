"""Render the sections of a plan's page that show its evidence: signals, labels, what-ifs, slices."""

from __future__ import annotations

from router_models.errors import by_number
from router_models.planning.capacity import TierCapacity
from router_models.planning.labels import CERT_SHARE, label_money
from router_models.planning.plan import Plan
from router_models.planning.what_if import SliceFigure
from router_models.reports.markdown import dollars, spread, table

WORST_SLICES = 12


def signals_section(plan: Plan) -> str:
    """Render the AUC of every score, and what a verifier would be worth where there is none."""
    if not plan.signals or not plan.workload.labelled:
        return "Not measured: a traffic mix holds no scores. Record outcomes with token logprobs to find out."
    rows = [["signal", "AUC", "95 % interval", "read", "served"]]
    for figure in plan.signals:
        low, high = figure.auc.low, figure.auc.high
        read = "low = right" if figure.flipped else "high = right"
        had = "yes" if figure.needs is None else f"no: {figure.needs.removeprefix(f'the signal {figure.name} ')}"
        rows.append([figure.name, f"{figure.auc.value:.3f}", f"{low:.3f} to {high:.3f}", read, had])
    text = (
        f"How well each score alone tells {plan.workload.cheap}'s right answers from its wrong ones (½ = not at all), "
        "on prompts it was not fitted on. What a served version would not have (docs/reference/signals.md) counts for "
        "nothing in the recommendation."
    )
    parts = [text, table(rows)]
    if plan.imagined:
        more = [["verifier with AUC", "kept, %", "saved, %"]]
        more += [[f"{auc:.1f}", f"{100 * kept:.0f}", f"{100 * saved:.0f}"] for auc, kept, saved in plan.imagined]
        parts += [
            "No verifier beats the router here, or nothing of the answers was recorded. What a cascade would keep and "
            "save with one of a given AUC, at three quarters of the error budget:",
            table(more),
        ]
    return "\n\n".join(parts)


def labels_section(plan: Plan) -> str:
    """Render how many labels each error budget needs, and what they cost."""
    rows = [["ε", "reachable, %", "fewest labels (keeping)", "labels for ¾ of the reachable (keeping)"]]
    for row in plan.labels:
        here = f"**{row.epsilon:g}**" if row.epsilon == plan.budget.epsilon else f"{row.epsilon:g}"
        rows.append(
            [
                here,
                f"{100 * row.reachable:.0f}",
                _count(row.fewest, row.fewest_share),
                _count(row.useful, row.useful_share),
            ]
        )
    ground = "measured" if plan.workload.labelled else "assumed"
    text = (
        f"Labels of the certification sample for the {plan.shown} pattern, at {1 - plan.budget.delta:.0%} confidence "
        f"and 90 % power, by the risks {ground} here. `train` and `certify` keep {CERT_SHARE:.0%} of the labels for "
        f"certification: collect {1 / CERT_SHARE:.2g} times as many. Reachable = the most traffic that could be kept "
        "at that ε with labels without end."
    )
    if plan.workload.labelled:
        text += f" This plan's own certification sample: {int((~plan.workload.choosing).sum()):,} labels."
    return f"{text}\n\n{table(rows)}{_label_kinds(plan)}{_label_money(plan)}"


def _label_kinds(plan: Plan) -> str:
    """Render how many labels of each kind this plan's own ε needs."""
    kinds = plan.label_kinds
    if kinds is None:
        return ""
    streamed = "more than can be foretold"
    if kinds.streamed is not None:
        streamed = f"{kinds.streamed:,} labels in half of the cases, {kinds.streamed_most:,} in nine of ten"
    return (
        f"\n\n**Of each kind**, for ε = {plan.budget.epsilon:g} and ¾ of what is reachable: {kinds.tuning:,} labels "
        "train and tune, and a judge's or a program's will do. To certify, people label kept answers one by one until "
        f"it is proved (`serve-graph label`): {streamed}. A fixed number takes {kinds.fixed:,} labels, "
        f"{kinds.fixed_kept:,} of them of kept answers."
    )


def _label_money(plan: Plan) -> str:
    """Render what the labels cost and when they are earned back, where the price of a label is known."""
    each, row = plan.demand.usd_per_label, plan.labels_here
    money = None if row is None else label_money(plan.demand, row)
    if each is None or row is None or row.useful is None or money is None:
        return ""
    saved = plan.demand.per_day * _saved_per_request(plan)
    days = round(money / saved) if saved > 0 else 0
    back = f", earned back in {days:,} {by_number(days, 'day')} at this volume" if saved > 0 else ""
    return (
        f"\n\nAt {dollars(each)} a label, {row.useful:,} certification labels and those that train and tune cost "
        f"{dollars(money)}{back}."
    )


def _saved_per_request(plan: Plan) -> float:
    return (plan.beside[1].usd_per_1000.value - plan.option(plan.shown).figures.usd_per_1000.value) / 1000


def what_ifs_section(plan: Plan) -> str:
    """Render the saving under other prices, shares and error budgets."""
    rows = [["if", f"{plan.shown} saves, %"]]
    rows += [[w.change, f"{100 * w.saving:.0f}"] for w in plan.what_ifs]
    budgets = [["error budget ε", "answer"], *([f"{epsilon:g}", words] for epsilon, words in plan.budgets)]
    closing = [f"Each million requests under {plan.shown} saves {dollars(1e6 * _saved_per_request(plan))}."]
    risk = plan.option(plan.shown).figures.kept_risk
    if risk is not None and 0 < risk < plan.budget.epsilon:
        closing.append(
            f"The error budget is spent when errors among the answers kept become {plan.budget.epsilon / risk:.1f} "
            f"times as frequent ({risk:.1%} → {plan.budget.epsilon:.1%}): a new model, a new prompt or new traffic."
        )
    return "\n\n".join([table(rows), table(budgets), " ".join(closing)])


def plan_slices_section(plan: Plan) -> str:
    """Render the slices in which the error among kept answers is highest."""
    if not plan.slices:
        return "No slices: the workload carries no metadata."
    over, bad = [s for s in plan.slices if s.over], "harmful" if plan.budget.harm else "wrong"
    worst = plan.slices[:WORST_SLICES]
    rows = [["slice", "n", "cheap right, %", "frontier right, %", "kept", f"{bad} among kept", "at most, %"]]
    rows += [_slice_row(s) for s in worst]
    verdict = (
        f"In {len(over)} of {len(plan.slices)} slices more of the kept answers are {bad} than ε allows, beyond "
        "chance: send those to the frontier by rule, or certify with slices."
        if over
        else f"In none of {len(plan.slices)} slices does the error among kept answers exceed ε beyond chance."
    )
    shown = f"The {len(worst)} of {len(plan.slices)} slices that look worst under {plan.shown}, most suspicious first:"
    return "\n\n".join([verdict, shown, table(rows)])


def _slice_row(s: SliceFigure) -> list[str]:
    wrong = f"{s.wrong} of {s.kept}" if s.kept else "–"
    most = "–" if s.kept_risk_upper is None else f"{100 * s.kept_risk_upper:.0f}"
    return [
        f"{s.column}: {s.value or '(none)'}",
        f"{s.n}",
        f"{100 * s.cheap_right:.0f}",
        f"{100 * s.frontier_right:.0f}",
        f"{s.kept}",
        f"**{wrong}**" if s.over else wrong,
        most,
    ]


def _count(labels: int | None, share: float) -> str:
    return "no number would do" if labels is None else f"{labels:,} ({100 * share:.0f} %)"


def capacity_section(plan: Plan) -> str:
    """Render what each tier has at once at the busiest, beside what it can have; empty where that was not asked."""
    if plan.busiest is None:
        return ""
    rows = [["policy", "tier", "calls a request", "requests at once", "at most", "replicas", "carried"]]
    for policy in plan.loads:
        name = f"**{policy.name}**" if policy.name == plan.shown else policy.name
        rows += [[name, *_tier_load(load)] for load in policy.tiers]
    text = (
        f"{plan.busiest.per_s:g} requests a second. Requests at once are a mean: so many come in a second, times the "
        "seconds that each of them is there (Little's law), over the evidence prompts. At most "
        f"{plan.busiest.share:.0%} of a tier's places are taken on average: those that come together find one. "
        "Replicas and `carried` are for the interval's upper end. Latencies are those that are recorded or assumed: a "
        "tier that batches is slower when it is fuller."
    )
    return f"{text}\n\n{table(rows)}"


def _tier_load(load: TierCapacity) -> list[str]:
    carried = {None: "not known", True: "yes", False: "**no**"}[load.fits]
    return [
        load.tier,
        f"{load.calls:.3f}",
        "latency not known" if load.at_once is None else spread(load.at_once, 1, 1),
        "–" if load.most is None else f"{load.most:,}",
        "–" if load.replicas is None else f"{load.replicas:,}",
        carried,
    ]
