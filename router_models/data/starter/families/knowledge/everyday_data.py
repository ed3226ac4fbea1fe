"""Words for plain everyday requests: regular nouns, verbs and adjectives with their forms made by rule."""

from router_models.data.starter.families.words.words_data import words

NOUNS = words(
    "actor artist bag ball balloon banana band bank bean bear bed bell bike blanket boat bone boot bottle bowl boy "
    "brick broom brush bucket cake camel camera candle card carpet carrot cart ceiling chain cloud clown coat coin "
    "collar cookie corner cousin cow crown cup curtain desk diamond doctor doll donkey door dream dress drum duck "
    "ear egg elbow envelope eye farm fence field film finger flag floor flower fork garage garden gate gift girl "
    "glove goat gun hammer hand hat hill hook horn horse hotel idea island jacket jar jewel joke key king kite lake "
    "lamp lawyer lemon letter lion lock magnet map market mask meal mirror monkey moon mountain museum nail neck "
    "needle nest net nose nurse ocean office onion oven owl painter pan parrot path pencil phone picture pig pillow "
    "pilot pin pipe plane planet plant plate pocket pond pool poster printer queen rabbit radio ring road robot rock "
    "rocket roof room rope sailor school screen seat shark ship shirt shoe shop singer sister skirt sock song soup "
    "spider spoon stamp station statue stone storm street student suit table tail tent ticket tiger toe towel tower "
    "train truck tunnel turtle uncle valley village violin wagon wall wheel whistle wing worm zebra"
)
VERBS = words(
    "accept add answer appear arrest attack bark boil borrow brush burn camp check cheer climb collect color comb "
    "complain connect cook cough count cover crawl cross delay destroy discover dress end enjoy explain fail fill "
    "fix float follow gather greet guess happen hunt inform invent itch join kick kiss knock land laugh lift listen "
    "lock melt mix mow need offer order pack paint park pass pick plant point pour press print pull punch push rain "
    "reach relax remain repair rest return roll rush sail scream search shout show sign smell spill start stay talk "
    "taste thank touch train travel turn visit wait want warn wash watch wish wonder yell"
)
ADJECTIVES = words(
    "tall short long small cold warm clean dark deep fast slow high hard kind light loud new old poor quick quiet "
    "rich sharp sick smart smooth soft strong sweet thick weak young bright calm cheap cool dull fresh green great "
    "low mild narrow near neat plain proud rough shallow stiff strict tight tough"
)
TOPICS = words(
    "airport apple autumn baby bakery balcony beach bench bicycle birthday bread breakfast bridge brother bus butter "
    "camera candle castle cat chair cheese chicken child city clock coffee computer cookie cow crowd desert doctor "
    "dog dream elephant evening farmer father fire fish flower forest fox friend garden gift grandmother guitar hat "
    "hill holiday honey horse hospital house island jacket kitchen lake lamp letter library lion market mirror money "
    "moon morning mother mountain mouse museum music neighbor newspaper night ocean office orange painting park "
    "pencil phone piano picnic pizza planet rabbit radio rain restaurant river road school sea shoe shop singer "
    "sister snow soup spring star station storm story street student summer sun table tea teacher tiger train tree "
    "umbrella village violin wedding window winter zoo"
)


ALSO = {
    "burned": ("burnt",), "smelled": ("smelt",), "spilled": ("spilt",), "traveled": ("travelled",),
    "traveling": ("travelling",), "colored": ("coloured",), "coloring": ("colouring",), "roofs": ("rooves",),
}  # fmt: skip
"""Forms that are right as well."""


def plural(noun: str) -> str:
    """The regular plural of a noun from NOUNS."""
    return f"{noun}es" if noun.endswith(("s", "x", "z", "ch", "sh")) else f"{noun}s"


def past(verb: str) -> str:
    """The regular past of a verb from VERBS (none of them doubles its last letter)."""
    return f"{verb}d" if verb.endswith("e") else f"{verb}ed"


def continuous(verb: str) -> str:
    """The -ing form of a verb from VERBS."""
    return f"{verb.removesuffix('e')}ing"


def comparative(adjective: str) -> str:
    """The comparative of an adjective from ADJECTIVES."""
    return f"{adjective}r" if adjective.endswith("e") else f"{adjective}er"
