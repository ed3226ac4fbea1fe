"""Experiments 8, 9 and 10: a canary is promoted and rolled back on evidence that is looked at after every request.

8: a candidate that is worse by the margin is promoted with probability α at most, one within it is rolled back with
probability α_r at most, whatever is not graded and however traffic and weights move. The negative controls break: a
z-test at every request, every request of a session counted, ungraded pairs left out, rolling back for being worse at
all, slices without a correction, totals of two arms, costs that are clipped. 9: it is found soon, and far sooner than
without pairs. 10: the sample ratio.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from router_models import ArmOutcome, CanaryEvidence, CanaryFinding, CanaryLimits, PairedRequest
from router_models.monitoring.canary.arms import log_arm_wealth, log_split_wealth, weighted_difference
from router_models.risk_control.paired import log_wealth

ALPHA, MARGIN = 0.05, 0.02
GOAL = -np.log(ALPHA)
LIMITS = CanaryLimits(margin=MARGIN, alpha=ALPHA, alpha_rollback=ALPHA, harm_margin=None)
PAIRS = {
    -1: PairedRequest(False, 1.0, 0.0, None, None, 0.01, 0.01),
    0: PairedRequest(True, None, None, None, None, 0.01, 0.01),
    1: PairedRequest(False, 0.0, 1.0, None, None, 0.01, 0.01),
}
UNGRADED = PairedRequest(False, None, None, None, None, 0.01, 0.01)


def differences(runs: int, n: int, *, differ: float, mean: float, seed: int) -> Iterator[np.ndarray]:
    """Differences of n requests, -1, 0 or 1, of which a share differs, a run at a time."""
    rng = np.random.default_rng(seed)
    worse, better = (differ - mean) / 2, (differ + mean) / 2
    for _ in range(runs):
        u = rng.random(n)
        yield np.where(u < worse, -1, np.where(u < worse + better, 1, 0))


def paired(difference: np.ndarray) -> list[PairedRequest]:
    return [PAIRS[d] for d in difference.tolist()]


def finding(evidence: CanaryEvidence, name: str) -> CanaryFinding:
    return next(f for f in evidence.findings if f.name == name)


def first(path: np.ndarray, goal: float = GOAL) -> float:
    """How many observations it took to reach the goal; inf: not reached."""
    reached = np.flatnonzero(path >= goal)
    return float(reached[0] + 1) if len(reached) else np.inf


def peeked(values: np.ndarray, null: float, least: int = 30) -> bool:
    """Whether a one-sided z-test of "the mean is `null`", made after every value, ever rejects at 5 %."""
    n = np.arange(1, len(values) + 1)
    mean = np.cumsum(values) / n
    spread = np.sqrt(np.maximum(np.cumsum(values**2) / n - mean**2, 1e-12) / n)
    return bool((mean - null > 1.645 * spread)[least:].any())


def test_a_candidate_at_the_margin_is_promoted_as_rarely_as_promised_and_a_peeked_z_test_fails(
    size, allowed, measured
):
    runs, n = size(100, 1000), size(2000, 4000)
    promoted = fooled = 0
    for d in differences(runs, n, differ=0.1, mean=-MARGIN, seed=22):
        promoted += CanaryEvidence.of(paired(d), [], LIMITS).verdict == "promote"
        fooled += peeked(d, -MARGIN)
    measured(f"promoted at the margin: {promoted} of {runs}; a z-test at every request: {fooled}")
    assert promoted <= allowed(runs, ALPHA)
    assert fooled > allowed(runs, ALPHA)


def test_an_equal_candidate_is_promoted_soon_and_four_times_as_soon_as_without_pairs(size, measured):
    runs, median = size(60, 400), {}
    for differ in (0.02, 0.05, 0.1):
        found = [first(log_wealth(d, MARGIN)) for d in differences(runs, 6000, differ=differ, mean=0, seed=9)]
        median[differ] = float(np.median(found))
    rng = np.random.default_rng(10)
    right = rng.random((runs, 2, 15_000)) < 0.8
    two_arms = [2 * first(log_wealth(candidate.astype(float) - stable, MARGIN)) for stable, candidate in right]
    measured(f"requests until promoted: {median}; without pairs {np.median(two_arms):.0f}")
    assert median[0.05] <= 1100
    assert median[0.05] <= np.median(two_arms) / 4


def test_the_evidence_reaches_its_limit_where_the_process_does():
    (d,) = differences(1, 3000, differ=0.05, mean=0, seed=3)
    at = int(first(log_wealth(d, MARGIN)))
    verdicts = [CanaryEvidence.of(paired(d)[:n], [], LIMITS).verdict for n in (at - 1, at)]
    assert verdicts == ["go_on", "promote"]


def test_a_candidate_within_the_margin_is_not_rolled_back_as_it_is_for_being_worse_at_all(size, allowed, measured):
    runs, n = size(100, 1000), size(3000, 6000)
    lines = []
    for mean in (0.0, -0.01, -MARGIN):
        beyond = at_all = 0
        for d in differences(runs, n, differ=0.1, mean=mean, seed=4):
            beyond += log_wealth(-d, -MARGIN).max() >= GOAL
            at_all += log_wealth(-d, 0.0).max() >= GOAL
        lines.append(f"{mean:+.2f}: {beyond} (worse at all: {at_all})")
        assert beyond <= (allowed(runs, ALPHA) if mean == -MARGIN else runs * ALPHA / 5)
        if mean == -0.01:
            assert at_all > allowed(runs, ALPHA)
    measured(f"rolled back of {runs}, by the true difference: {', '.join(lines)}")


def test_a_candidate_beyond_the_margin_is_rolled_back_soon(size, measured):
    runs = size(60, 400)
    delays = [first(log_wealth(-d, -MARGIN)) for d in differences(runs, 3000, differ=0.2, mean=-0.1, seed=5)]
    measured(f"requests until a drop of .10 is rolled back: {np.median(delays):.0f}")
    assert np.median(delays) <= 400
    assert max(delays) < np.inf


def test_grades_that_are_missing_where_the_candidate_is_wrong_promote_nobody(size, allowed, measured):
    """Half of its wrong answers are not graded: without these pairs the drop seems to lie within the margin."""
    runs, n = size(60, 600), 3000
    promoted = dropped = 0
    for i, d in enumerate(differences(runs, n, differ=0.06, mean=-MARGIN, seed=6)):
        lost = (d == -1) & (np.random.default_rng(i).random(n) < 0.5)
        pairs = [UNGRADED if gone else pair for pair, gone in zip(paired(d), lost.tolist(), strict=True)]
        evidence = CanaryEvidence.of(pairs, [], LIMITS)
        promoted += evidence.verdict == "promote"
        dropped += log_wealth(d[~lost], MARGIN).max() >= GOAL
        assert not finding(evidence, "quality_worse").reached
    measured(f"promoted: {promoted} of {runs}; with ungraded pairs left out: {dropped}")
    assert promoted <= allowed(runs, ALPHA)
    assert dropped > allowed(runs, ALPHA)


def test_ties_of_a_judge_who_errs_hide_no_candidate_at_the_margin(size, allowed, measured):
    """By what it says of each answer over both orders; taken for no difference, they promote what is worse."""
    runs, n, reads, broken = size(150, 1000), 20_000, 0.85, {"over both orders": 0, "as no difference": 0}
    rng, drop = np.random.default_rng(5), MARGIN / (2 * reads - 1)
    for _ in range(runs):
        u, equal = rng.random(n), rng.random((n, 1)) < 0.5
        right = np.where((u < 0.06 + drop)[:, None], (1, 0), np.where((u < 0.12 + drop)[:, None], (0, 1), equal))
        orders = [np.where(rng.random((n, 2)) < reads, right, 1 - right) for _ in range(2)]
        tie = (orders[0] != orders[1]).any(axis=1)
        judged = u < 0.3
        mean = np.where(judged, sum(one[:, 1] - one[:, 0] for one in orders) / 2, 0.0)
        assert tie[judged].mean() < 0.5, "they are believed"
        for name, values in (("over both orders", mean), ("as no difference", np.where(tie, 0.0, mean))):
            broken[name] += first(log_wealth(values, MARGIN)) < np.inf
    measured(f"22: ties, {runs} runs: {broken}")
    assert broken["over both orders"] <= allowed(runs, ALPHA)
    assert broken["as no difference"] > 2 * allowed(runs, ALPHA)


def test_requests_of_a_session_are_no_further_evidence(size, allowed, measured):
    """A session asks five times what both versions decide in the same way each time."""
    runs, n = size(60, 600), 4000
    promoted = rolled = every = 0
    for d in differences(runs, n // 5, differ=0.1, mean=-MARGIN, seed=13):
        pairs = [replace(pair, group=str(i)) for i, pair in enumerate(paired(d)) for _ in range(5)]
        evidence = CanaryEvidence.of(pairs, [], LIMITS)
        promoted, rolled = promoted + (evidence.verdict == "promote"), rolled + (evidence.verdict == "roll_back")
        every += log_wealth(np.repeat(d, 5), MARGIN).max() >= GOAL
    measured(f"of {runs}: promoted {promoted}, rolled back {rolled}; where every request counts, promoted {every}")
    assert max(promoted, rolled) <= allowed(runs, ALPHA)
    assert every > allowed(runs, ALPHA)


def test_slices_at_the_margin_are_rolled_back_as_rarely_together_as_one(size, allowed, measured):
    runs, slices, n = size(60, 400), 8, 500
    corrected = uncorrected = 0
    for d in differences(runs, slices * n, differ=0.2, mean=-MARGIN, seed=7):
        peaks = [log_wealth(-part, -MARGIN).max() for part in d.reshape(slices, n)]
        corrected += max(peaks) >= GOAL + np.log(slices)
        uncorrected += max(peaks) >= GOAL
    measured(f"any of {slices} slices rolled back: {corrected} of {runs}; at the level of one: {uncorrected}")
    assert corrected <= allowed(runs, ALPHA)
    assert uncorrected > allowed(runs, ALPHA)


def test_a_cost_at_the_ceiling_is_promoted_rarely_and_rare_large_bills_are_not_clipped_away(size, allowed, measured):
    """Most requests cost less, a few fifty times as much: at the ceiling, or beyond the bound that was stated."""
    runs, n = size(40, 600), 1000
    limits = CanaryLimits(harm_margin=None, cost_bound_usd=0.02, cost_ceiling=1.0)
    at_ceiling = relative = dearer = blocked = clipped = 0
    rng = np.random.default_rng(8)
    for _ in range(runs):
        dear, beyond = rng.random(n) < 0.5, rng.random(n) < 0.01
        pairs = [PairedRequest(False, 1.0, 1.0, None, None, 0.01, 0.02 if up else 0.0) for up in dear.tolist()]
        at_ceiling += finding(CanaryEvidence.of(pairs, [], limits), "cost").reached
        twice = rng.random(n) < 0.4  # twice the cost or half: at a ceiling of 1.1
        pairs = [
            PairedRequest(False, 1.0, 1.0, None, None, 0.01, 0.02 if up else 0.005, last_usd=0.02)
            for up in twice.tolist()
        ]
        evidence = CanaryEvidence.of(pairs, [], LIMITS)
        relative += finding(evidence, "relative_cost").reached
        dearer += finding(evidence, "relative_cost_worse").reached
        pairs = [PairedRequest(False, 1.0, 1.0, None, None, 0.01, 0.5 if up else 0.008) for up in beyond.tolist()]
        evidence = CanaryEvidence.of(pairs, [], limits)
        blocked += evidence.verdict != "promote"
        clipped += log_wealth((0.01 - np.where(beyond, 0.02, 0.008)) / 0.02, 0.0).max() >= GOAL
    measured(
        f"proved at the ceiling: {at_ceiling} of {runs}, without a bound {relative} (rolled back {dearer}); bills "
        f"beyond the bound: promoted 0, if clipped {clipped}"
    )
    assert max(at_ceiling, relative, dearer) <= allowed(runs, ALPHA)
    assert blocked == runs
    assert clipped > allowed(runs, ALPHA)


LADDER = {"nano": 0.001, "mini": 0.01, "last": 0.1}


def moved(rng: np.random.Generator, n: int, stable: str, moves: dict[str, float]) -> list[PairedRequest]:
    """Requests of a ladder of three tiers that the stable version sends to one and the candidate elsewhere."""
    places = rng.choice([stable, *moves], n, p=[1 - sum(moves.values()), *moves.values()])
    usd = LADDER[stable]
    return [
        PairedRequest(place == stable, 1.0, 1.0, False, False, usd, LADDER[place], last_usd=LADDER["last"])
        for place in places.tolist()
    ]


def test_costs_as_shares_of_the_last_tiers_follow_the_bill_where_relative_differences_do_not(size, measured):
    """One candidate moves three in ten from the middle tier down and one in ten up, its bill grows by 63 %."""
    runs, wrong, rolled, kept = size(20, 300), 0, 0, 0
    rng = np.random.default_rng(14)
    for _ in range(runs):
        pairs = moved(rng, 3000, "mini", {"nano": 0.3, "last": 0.1})
        usd = np.array([(pair.stable_usd, pair.candidate_usd) for pair in pairs])
        each = (usd[:, 0] - usd[:, 1]) / usd.sum(axis=1)
        wrong += log_wealth(each, 0.1 / 2.1).max() >= GOAL
        rolled += CanaryEvidence.of(pairs, [], LIMITS).verdict == "roll_back"
        kept += CanaryEvidence.of(moved(rng, 3000, "last", {"mini": 0.1}), [], LIMITS).verdict == "promote"
    measured(f"a bill that grows by 63 %: rolled back {rolled} of {runs}, by relative differences promoted {wrong}")
    assert min(rolled, wrong, kept) >= 0.95 * runs


def decided(rng: np.random.Generator, n: int, *, cheap: float, differ: float, down: float) -> list[PairedRequest]:
    """Requests of which the stable version sends a share to a cheap tier, at a twentieth of the last one's cost.

    The candidate sends a share elsewhere, of these a share down. Of those that the cheap tier answers in place of the
    last one 5 % are harmed and 2 % gain; the other way round it is the other way round.
    """
    last_usd, cheap_usd = 0.01, 0.0005
    pairs = []
    for u, goes_down, stays, graded in zip(
        rng.random(n), rng.random(n) < down, rng.random(n) < cheap, rng.random(n), strict=True
    ):
        if u >= differ:
            usd = cheap_usd if stays else last_usd
            pairs.append(PairedRequest(True, None, None, None, None, usd, usd, last_usd=last_usd))
            continue
        harmed, gained = bool(graded < 0.05), bool(0.05 <= graded < 0.07)
        by_cheap, by_last = (float(not harmed), harmed, cheap_usd), (float(not gained), False, last_usd)
        one, two = (by_last, by_cheap) if goes_down else (by_cheap, by_last)
        pairs.append(PairedRequest(False, one[0], two[0], one[1], two[1], one[2], two[2], last_usd=last_usd))
    return pairs


def promoted_after(pairs: list[PairedRequest], limits: CanaryLimits) -> float:
    """After how many pairs the evidence promotes, to within ten; inf: not at all, or it rolls back first."""

    def verdict(n: int) -> str:
        return CanaryEvidence.of(pairs[:n], [], limits).verdict

    low, high = 0, 250
    while verdict(high) == "go_on" and high < len(pairs):
        low, high = high, min(2 * high, len(pairs))
    if verdict(high) != "promote":
        return np.inf
    while high - low > 10:
        middle = (low + high) // 2
        low, high = (middle, high) if verdict(middle) == "go_on" else (low, middle)
    return float(high)


def test_good_candidates_are_promoted_at_the_default_limits_within_a_bounded_number_of_pairs(size, measured):
    """Equal ones, and ones that send more to the cheap tier, beside a stable version that sends half or most there."""
    runs, n, lines = size(8, 30), size(3000, 6000), []
    rng = np.random.default_rng(15)
    for cheap in (0.5, 0.8)[: size(1, 2)]:
        for down, kind in ((0.5, "equal"), (1.0, "cheaper")):
            for differ in (0.05, 0.1, 0.2)[: size(2, 3)]:
                found = [
                    promoted_after(decided(rng, n, cheap=cheap, differ=differ, down=down), CanaryLimits())
                    for _ in range(runs)
                ]
                half, most = np.quantile(found, (0.5, 0.9), method="higher")
                lines.append(f"{kind}, {cheap:.0%} cheap, {differ:.0%} differ: {half:.0f}, {most:.0f}")
                assert half <= 3000
    measured(f"pairs until promoted at the default limits (median, nine in ten): {'; '.join(lines)}")


def hours(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of four steps, and the share of failures: low at first, high in the bad hour of the later ones."""
    step = np.arange(n) * 4 // n
    return np.array([0.05, 0.1, 0.25, 0.5])[step], np.array([0.01, 0.02, 0.1, 0.2])[step]


def test_an_arm_that_fails_no_more_than_the_other_is_kept_though_the_hour_is_bad(size, allowed, measured):
    """Totals mislead: most of the candidate's units fell in the bad hour."""
    runs, n = size(100, 1000), 4000
    rng = np.random.default_rng(9)
    wrong = fooled = 0
    for _ in range(runs):
        weight, share = hours(rng, n)
        candidate = rng.random(n) < weight
        failed = rng.random(n) < share + LIMITS.error_margin * candidate
        wrong += (
            log_arm_wealth(weighted_difference(candidate, weight, failed), weight, LIMITS.error_margin).max() >= GOAL
        )
        fooled += failed[candidate].mean() - failed[~candidate].mean() > LIMITS.error_margin + 1.645 * np.sqrt(
            failed[candidate].var() / candidate.sum() + failed[~candidate].var() / (~candidate).sum()
        )
    measured(f"rolled back at the margin: {wrong} of {runs}; by totals, looked at once: {fooled}")
    assert wrong <= allowed(runs, ALPHA)
    assert fooled > allowed(runs, ALPHA)


def test_an_arm_that_fails_more_is_found(size, measured):
    runs, lines = size(40, 400), []
    rng = np.random.default_rng(10)
    for weight, share, most in ((0.05, 0.5, 400), (0.05, 0.1, 4000), (0.25, 0.1, 1200), (0.5, 0.05, 1500)):
        found = []
        for _ in range(runs):
            w = np.full(8000, weight)
            candidate = rng.random(8000) < w
            failed = rng.random(8000) < np.where(candidate, share, 0.01)
            found.append(first(log_arm_wealth(weighted_difference(candidate, w, failed), w, LIMITS.error_margin)))
        lines.append(f"{share:.0%} at {weight:.0%} of traffic: {np.median(found):.0f}")
        assert np.median(found) <= most
    measured(f"units until failures are found, 1 % at the stable version: {', '.join(lines)}")


def test_a_split_as_assigned_is_left_alone_and_one_that_is_not_is_found(size, allowed, measured):
    runs, n = size(100, 1000), size(4000, 10_000)
    rng = np.random.default_rng(11)
    alone = stepped = fooled = 0
    half, steps = np.full(n, 0.5), np.array([0.01, 0.05, 0.25, 0.5])[np.arange(n) * 4 // n]
    for _ in range(runs):
        arm = rng.random(n) < half
        alone += log_split_wealth(arm, half).max() >= GOAL
        stepped += log_split_wealth(rng.random(n) < steps, steps).max() >= GOAL
        fooled += peeked(arm.astype(float), 0.5) or peeked(1.0 - arm, 0.5)
    found = {
        share: np.median(
            [first(log_split_wealth(rng.random(20_000) < share, np.full(20_000, 0.5))) for _ in range(40)]
        )
        for share in (0.48, 0.45)
    }
    measured(
        f"50/50 called uneven: {alone} of {runs}, over four weights {stepped}, by a z-test at every unit {fooled}; "
        f"52/48 is found after {found[0.48]:.0f} units, 55/45 after {found[0.45]:.0f}"
    )
    assert max(alone, stepped) <= allowed(runs, ALPHA)
    assert fooled > allowed(runs, ALPHA)
    assert found[0.48] <= 12_000


def test_a_whole_rollout_of_an_equal_candidate_is_promoted_and_hardly_ever_rolled_back(size, allowed, measured):
    """Everything at once, as a controller would ask after every step."""
    runs, n = size(20, 300), 2500
    limits = CanaryLimits(cost_bound_usd=0.05, latency_limit_s=2.0)
    slices = [("legal",), ("code",), ("chat", "long")]
    verdicts = []
    for i, d in enumerate(differences(runs, n, differ=0.05, mean=0, seed=12)):
        rng = np.random.default_rng(i)
        pairs = [
            PairedRequest(bool(x == 0), float(x <= 0), float(x >= 0), bool(x > 0), bool(x < 0), 0.01, 0.01, slices[s])
            for x, s in zip(d, rng.integers(0, 3, n), strict=True)
        ]
        weight = np.array([0.05, 0.25, 0.5, 0.5])[np.arange(n) * 4 // n]
        units = [
            ArmOutcome("candidate" if arm else "stable", float(w), bool(bad), float(s), 0.01)
            for arm, w, bad, s in zip(
                rng.random(n) < weight, weight, rng.random(n) < 0.02, rng.exponential(0.6, n), strict=True
            )
        ]
        verdicts.append(CanaryEvidence.of(pairs, units, limits).verdict)
    counts = {verdict: verdicts.count(verdict) for verdict in ("promote", "go_on", "roll_back")}
    measured(f"equal candidates after {n} requests: {counts}")
    assert counts["promote"] >= 0.7 * runs
    assert counts["roll_back"] <= allowed(runs, ALPHA)
