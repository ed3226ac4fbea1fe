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


def templated(names: list[str]) -> list[str]:
    """Short questions under one long instruction: a few words of thirty are a prompt's own."""
    rule = "Answer the following trivia question with one short phrase and nothing else, as briefly as you can."
    return [f"{rule} Question: who was the first to reach {name}? Think before you answer. Answer:" for name in names]


NAMES = [f"{first}{second}" for first in ("north", "south", "east", "old", "new") for second in "abcdefghijklmnop"]


def test_prompts_under_one_instruction_are_not_the_same_set() -> None:
    train, test = templated(NAMES[:40]), templated(NAMES[40:])
    assert near_duplicates_of(train, test).tolist() == [False] * 40


def test_a_repeat_under_the_same_instruction_is_still_found() -> None:
    train, test = templated(NAMES[:40]), templated(NAMES[30:])
    assert near_duplicates_of(train, test).tolist() == [False] * 30 + [True] * 10


def test_a_repeat_under_another_instruction_is_found_where_both_are_templates() -> None:
    train = [f"{STEM} in case {name} of the {name} lesson on the board of {name}?" for name in NAMES[:40]]
    test = [f"Please reply in one word, and give no reasons. {text}" for text in train[:25]]
    assert near_duplicates_of(train, test).tolist() == [True] * 25 + [False] * 15


def test_embeddings_of_one_template_lie_close_without_being_repeats() -> None:
    chance = np.random.default_rng(0)
    close = np.array([1.0, 0, 0, 0]) + chance.normal(scale=0.1, size=(80, 4))
    close = (close / np.linalg.norm(close, axis=1, keepdims=True)).astype(np.float32)
    assert (close @ close.T).min() > 0.7
    texts = templated(NAMES)
    assert not near_duplicates_of(texts[:40], texts[40:], close[:40], close[40:]).any()
    different = [f"{name} {name[::-1]} stands alone" for name in NAMES]  # no words in common, but all near one another
    assert not near_duplicates_of(different[:40], different[40:], close[:40], close[40:]).any()


def test_a_question_that_many_others_extend_is_a_repeat() -> None:
    """What twenty-five of them have in common is the question; one that is nothing else is not new."""
    question = "A train leaves the station at noon and travels sixty miles per hour toward the city"
    others = [f"{question} {n} {3 * n} {7 * n}" for n in range(25)]
    assert near_duplicates_of([question, "Why is the sky of Mars not as blue as ours?"], others).tolist() == [
        True,
        False,
    ]


def test_many_copies_of_one_prompt_are_no_template() -> None:
    text = f"{STEM}? Give the answer in metres."
    vector = np.array([[1.0, 0.0]], dtype=np.float32)
    assert near_duplicates_of([text], [text] * 50).all()
    other = f"How far is a spring of constant k stretched by two newtons: {NAMES[0]}"
    assert near_duplicates_of([other], [text] * 50, vector, np.repeat(vector, 50, axis=0)).all()


def test_a_changed_character_in_a_script_without_spaces_leaves_a_repeat() -> None:
    """Chinese, Japanese and Thai leave no space between words: a sentence would be one word, equal or different."""
    train = [
        "请问法国的首都在哪一条河的两岸，人口有多少？",
        "この鉄道は東京と大阪を何時間で結びますか。",
        "เมืองหลวงของประเทศไทยคือเมืองอะไร",
    ]
    test = [
        "法国的首都在哪一条河的两岸，人口有多少呢？",
        "この鉄道は東京と大阪とを何時間で結びますか。",
        "เมืองหลวงของประเทศไทยคือเมืองอะไรครับ",
    ]
    assert near_duplicates_of(train, test).tolist() == [True] * 3
    assert not near_duplicates_of(train, [*test[1:], "月亮离地球有多远，光要走几秒钟？"])[0]
    rule = "请用一句话回答下面的问题，不要解释理由："
    names = [f"第{a}{b}号行星是谁发现的" for a in "甲乙丙丁戊" for b in "子丑寅卯辰巳午未"]
    assert not near_duplicates_of([rule + name for name in names[:20]], [rule + name for name in names[20:]]).any()


def test_embeddings_of_a_short_template_are_none_of_its_repeats() -> None:
    """Nine of one set lie near one another and near those of the other: a template that words do not show."""
    train, test = [f"{name}?" for name in NAMES[:9]], [f"{name}?" for name in NAMES[40:43]]
    close = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (12, 1))
    assert not near_duplicates_of(train, test, close[:9], close[9:]).any()
    assert near_duplicates_of(train[:3], test[:1], close[:3], close[:1]).all()


def test_embeddings_tell_no_numbers_apart() -> None:
    same = np.array([[1.0, 0.0]], dtype=np.float32)
    [other] = near_duplicates_of(["Is 4721 prime?"], ["Is 4127 a prime?"], same, same)
    [reworded] = near_duplicates_of(["Is 4721 prime?"], ["4721: a prime number?"], same, same)
    [listed] = near_duplicates_of(["Is 4721 prime?"], ["4721: a prime? (1) yes (2) no"], same, same)
    assert (bool(other), bool(reworded), bool(listed)) == (False, True, True)
