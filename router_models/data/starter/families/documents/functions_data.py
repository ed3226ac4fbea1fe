"""Small Python functions to ask for: levels 1 to 3 (4 and 5 are in functions_hard_data.py).

Each row: (level, name, parameters, what it returns, the body of a solution, the arguments of the hidden cases).
`{k}` and `{c}` in a row are replaced by a number and a letter, so that one row makes several tasks.
"""

FunctionRow = tuple[int, str, str, str, str, tuple[tuple[object, ...], ...]]

TEXTS = (("hello",), ("banana",), ("",), ("Open Sesame",), ("a",), ("mississippi river",))
LISTS: tuple[tuple[object, ...], ...] = (
    ([3, 1, 2],),
    ([5],),
    ([],),
    ([4, 4, -1, 7, 0],),
    ([10, 9, 8, 7, 6, 5],),
    ([-3, -8, 2, 11],),
)
FULL_LISTS = (([3, 1, 2],), ([5],), ([4, 4, -1, 7, 0],), ([10, 9, 8],), ([-3, -8],))
NUMBERS = ((0,), (1,), (7,), (12,), (25,), (100,))

EASY: tuple[FunctionRow, ...] = (
    (1, "add_{k}", "x", "the number x plus {k}", "return x + {k}", NUMBERS),
    (1, "times_{k}", "x", "the number x multiplied by {k}", "return x * {k}", NUMBERS),
    (1, "minus_{k}", "x", "the number x minus {k}", "return x - {k}", NUMBERS),
    (1, "is_even", "n", "True if the whole number n is even and False otherwise", "return n % 2 == 0", NUMBERS),
    (1, "is_odd", "n", "True if the whole number n is odd and False otherwise", "return n % 2 == 1", NUMBERS),
    (1, "square", "x", "the square of the number x", "return x * x", NUMBERS),
    (1, "length", "text", "the number of characters in the string text", "return len(text)", TEXTS),
    (1, "greet", "name", 'the string "Hello, " followed by name', 'return "Hello, " + name', TEXTS),
    (1, "first", "items", "the first element of the list items", "return items[0]", FULL_LISTS),
    (1, "total", "numbers", "the sum of the list numbers", "return sum(numbers)", LISTS),
    (
        1,
        "larger",
        "a, b",
        "the larger of the two numbers a and b",
        "return max(a, b)",
        ((1, 2), (5, 3), (-1, -4), (7, 7)),
    ),
    (2, "last", "items", "the last element of the list items", "return items[-1]", FULL_LISTS),
    (2, "shout", "text", "text in upper case", "return text.upper()", TEXTS),
    (2, "backwards", "text", "the string text reversed", "return text[::-1]", TEXTS),
    (2, "biggest", "numbers", "the largest number in the list numbers", "return max(numbers)", FULL_LISTS),
    (2, "power_{k}", "x", "x to the power of {k}", "return x ** {k}", ((0,), (1,), (2,), (3,), (5,))),
    (
        2,
        "divisible_by_{k}",
        "n",
        "True if n is divisible by {k}, else False",
        "return n % {k} == 0",
        ((0,), (1,), (12,), (60,), (35,), (504,), (11,)),
    ),
    (2, "repeat_{k}", "text", "the string text repeated {k} times", "return text * {k}", TEXTS),
    (2, "first_{k}", "items", "a list with the first {k} elements of the list items", "return items[:{k}]", LISTS),
    (
        2,
        "contains_{c}",
        "text",
        'True if the string text contains the letter "{c}", else False',
        'return "{c}" in text',
        TEXTS,
    ),
    (
        2,
        "average",
        "numbers",
        "the arithmetic mean of the non-empty list numbers",
        "return sum(numbers) / len(numbers)",
        FULL_LISTS,
    ),
    (2, "absolute", "x", "the absolute value of x", "return abs(x)", ((3,), (-3,), (0,), (-17,))),
    (
        3,
        "count_{c}",
        "text",
        'how often the letter "{c}" occurs in the string text',
        'return text.count("{c}")',
        TEXTS,
    ),
    (
        3,
        "above_{k}",
        "numbers",
        "a list of those numbers that are greater than {k}, in their order",
        "return [n for n in numbers if n > {k}]",
        LISTS,
    ),
    (
        3,
        "below_{k}",
        "numbers",
        "how many of the numbers are less than {k}",
        "return sum(n < {k} for n in numbers)",
        LISTS,
    ),
    (
        3,
        "is_palindrome",
        "text",
        "True if text reads the same backwards, else False",
        "return text == text[::-1]",
        (("abba",), ("abc",), ("",), ("level",), ("ab",)),
    ),
    (
        3,
        "sum_to",
        "n",
        "the sum of all whole numbers from 1 to n",
        "return n * (n + 1) // 2",
        ((1,), (2,), (10,), (50,)),
    ),
    (
        3,
        "evens",
        "numbers",
        "a list of the even numbers in the list numbers",
        "return [n for n in numbers if n % 2 == 0]",
        LISTS,
    ),
    (
        3,
        "word_count",
        "text",
        "the number of words in text, separated by blanks",
        "return len(text.split())",
        (("one two",), ("",), ("a b c d",), ("single",)),
    ),
    (
        3,
        "factorial",
        "n",
        "the factorial of n",
        "result = 1\n    for i in range(2, n + 1):\n        result *= i\n    return result",
        ((0,), (1,), (5,), (8,)),
    ),
    (
        3,
        "add_to_all_{k}",
        "numbers",
        "a new list with {k} added to every number",
        "return [n + {k} for n in numbers]",
        LISTS,
    ),
    (
        3,
        "multiples_of_{k}",
        "n",
        "a list of the first n positive multiples of {k}",
        "return [{k} * i for i in range(1, n + 1)]",
        ((0,), (1,), (4,), (6,)),
    ),
)
