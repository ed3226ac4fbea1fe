"""What the story of three nodes counts, and what it is told by: without nodes."""

from pathlib import Path

import yaml

from serve_graph.cluster.replicas.nodes import node_local
from serve_graph.config.graph import GraphConfig
from tests.nodes.callers import Reply, longest_gap
from tests.nodes.cluster import ROOT, configuration, made_cluster
from tests.nodes.table import COLUMNS, Phase, page


def reply(began: float, took: float = 0.5, said: str = "200 accepted", whole: bool = True) -> Reply:
    return Reply(began, took, said, "192.0.2.12", f"dec-{began}", whole)


def test_the_longest_gap_is_between_answers_of_all_callers_and_to_both_ends() -> None:
    replies = [reply(1), reply(2), reply(9), reply(5, said="503", whole=False)]
    assert longest_gap(replies, 0, 10) == 7
    assert longest_gap(replies, 0, 30) == 20.5
    assert longest_gap([], 3, 10) == 7


def test_a_phase_counts_what_was_sent_in_it_by_outcome_and_failure() -> None:
    phase = Phase("a cut", 0, 10, 3.25, "after the link was back")
    replies = [reply(1), reply(2, said="200 escalated"), reply(3, 5.0, "no reply", False), reply(12), reply(9, 6.0)]
    cells = [cell.strip() for cell in phase.line(replies).strip("|").split("|")]
    assert len(cells) == len(COLUMNS)
    assert cells == [
        "a cut", "10", "4", "3", "accepted × 2, escalated × 1", "no reply × 1", "7.5", "6.0",
        "3.2 after the link was back",
    ]  # fmt: skip
    assert phase.line(replies) in page([phase], replies, ["all is told."], 4)


def test_the_configuration_is_the_clusters_and_names_nothing_that_one_node_alone_has(tmp_path: Path) -> None:
    told = configuration(tmp_path)
    shipped = yaml.safe_load((ROOT / "configs" / "cluster.yaml").read_text())
    assert told["nodes"] == shipped["nodes"] == "several"
    assert [tier["name"] for tier in told["tiers"]] == [tier["name"] for tier in shipped["tiers"]]
    assert node_local(GraphConfig.model_validate(told)) == {}


def test_each_tier_has_a_node_of_its_own_and_the_head_runs_no_replica(tmp_path: Path) -> None:
    cluster = made_cluster(tmp_path)
    for name, worker in cluster.workers.items():
        [resources] = [word for word in worker.arguments if word.startswith("{")]
        assert set(yaml.safe_load(resources)) == {"serving", f"tier-{name}"}
    at = cluster.head.arguments
    assert at[at.index("--num-cpus") + 1] == "0"
    hosts = [cluster.head, *cluster.workers.values()]
    assert len({host.address for host in hosts}) == len({host.volume for host in hosts}) == 3
    assert all(len(host.link) < 16 for host in hosts), "the names of interfaces are short"
