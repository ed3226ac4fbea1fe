import numpy as np

from router_models.data.near_duplicates import near_duplicates_of

STEM = "A spring of constant k is stretched by a weight of two newtons hung from its lower end; how far does it move"


def test_the_same_question_with_other_options_is_a_repeat() -> None:
    train = [f"{STEM}?\nA. 1 m\nB. 2 m\nC. 3 m\nD. 4 m\nE. 5 m", "Name the capital of France and its largest river."]
    test = [f"{STEM}:\n(1) one metre\n(2) two metres", "Which treaty ended the war of the Spanish succession in 1713?"]
    assert near_duplicates_of(train, test).tolist() == [True, False]


def test_shared_boilerplate_alone_is_no_repeat() -> None:
    boiler = "Answer the following question by choosing one of the options below."
    train = [f"{boiler} Which metal melts at the lowest temperature among those found in ordinary household wiring?"]
    test = [f"{boiler} Who wrote the novel in which a whale is hunted across several oceans by a vengeful captain?"]
    assert near_duplicates_of(train, test).tolist() == [False]


def test_short_prompts_repeat_only_when_they_are_equal() -> None:
    assert near_duplicates_of(["2 + 2?", "2 + 3?"], ["2  +  2 ?"]).tolist() == [True, False]


def test_embeddings_that_all_but_coincide_count_as_well() -> None:
    a = np.eye(3, dtype=np.float32)
    b = np.array([[0.999, 0.0447, 0.0]], dtype=np.float32)
    assert near_duplicates_of(["x one", "y two", "z three"], ["w four"], a, b).tolist() == [True, False, False]
