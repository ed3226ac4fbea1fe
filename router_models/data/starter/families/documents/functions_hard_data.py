"""Small Python functions to ask for: levels 4 and 5, in the form of functions_data.py."""

from router_models.data.starter.families.documents.functions_data import LISTS, TEXTS, FunctionRow

HARD: tuple[FunctionRow, ...] = (
    (
        4,
        "is_prime",
        "n",
        "True if n is a prime number, else False",
        "return n > 1 and all(n % d for d in range(2, n))",
        ((0,), (1,), (2,), (3,), (9,), (17,), (91,), (97,)),
    ),
    (
        4,
        "unique",
        "items",
        "a list of the items without duplicates, keeping the order of first appearance",
        "return list(dict.fromkeys(items))",
        (([1, 2, 1],), ([],), ([3, 3, 2, 1, 2],), ([5, 4],)),
    ),
    (
        4,
        "second_largest",
        "numbers",
        "the second largest of the different numbers in the list (there are at least two)",
        "return sorted(set(numbers))[-2]",
        (([1, 2],), ([5, 5, 3],), ([9, 1, 8],), ([-1, -2, -3],)),
    ),
    (
        4,
        "vowels",
        "text",
        "the number of vowels (a, e, i, o, u in either case) in text",
        'return sum(c in "aeiou" for c in text.lower())',
        TEXTS,
    ),
    (
        4,
        "fibonacci",
        "n",
        "the n-th Fibonacci number, where fibonacci(0) is 0 and fibonacci(1) is 1",
        "a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a",
        ((0,), (1,), (2,), (7,), (12,)),
    ),
    (
        4,
        "digit_sum",
        "n",
        "the sum of the decimal digits of n",
        "return sum(int(d) for d in str(n))",
        ((0,), (7,), (123,), (9990,)),
    ),
    (
        4,
        "rotate_{k}",
        "items",
        "the list items rotated to the left by {k} places (the list has more than {k} elements)",
        "return items[{k}:] + items[:{k}]",
        (([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],), (list("abcdefghijklmn"),)),
    ),
    (
        4,
        "every_{k}",
        "items",
        "a list of every {k}-th element of items, starting with the first",
        "return items[::{k}]",
        (*LISTS, (list(range(20)),)),
    ),
    (
        4,
        "longest",
        "words",
        "the longest word in the list words (the first one if there are several)",
        "return max(words, key=len)",
        ((["a", "bb"],), (["xx", "yy"],), (["one", "three", "five"],)),
    ),
    (
        5,
        "gcd",
        "a, b",
        "the greatest common divisor of a and b, without importing anything",
        "while b:\n        a, b = b, a % b\n    return a",
        ((12, 18), (7, 5), (100, 75), (9, 0)),
    ),
    (
        5,
        "run_lengths",
        "text",
        "a list of [character, count] pairs for the runs of equal characters in text",
        "out = []\n"
        "    for c in text:\n"
        "        if out and out[-1][0] == c:\n"
        "            out[-1][1] += 1\n"
        "        else:\n"
        "            out.append([c, 1])\n"
        "    return out",
        (("aab",), ("",), ("abc",), ("zzzz",), ("aabbaa",)),
    ),
    (
        5,
        "balanced",
        "text",
        "True if the round brackets in text are balanced, else False",
        "depth = 0\n"
        "    for c in text:\n"
        "        depth += (c == '(') - (c == ')')\n"
        "        if depth < 0:\n"
        "            return False\n"
        "    return depth == 0",
        (("()",), ("(",), (")(",), ("(a(b)c)",), ("",), ("())",)),
    ),
    (
        5,
        "to_base_{k}",
        "n",
        "the digits of the whole number n >= 0 in base {k}, as a string",
        "digits = ''\n"
        "    while True:\n"
        "        digits = str(n % {k}) + digits\n"
        "        n //= {k}\n"
        "        if n == 0:\n"
        "            return digits",
        ((0,), (1,), (9,), (100,), (255,)),
    ),
    (
        5,
        "chunks_of_{k}",
        "items",
        "a list of consecutive slices of items, each with {k} elements except perhaps the last",
        "return [items[i:i + {k}] for i in range(0, len(items), {k})]",
        (*LISTS, (list(range(17)),)),
    ),
    (
        5,
        "caesar_{k}",
        "text",
        "text with every lower-case letter a-z moved {k} places on in the alphabet, around the end; "
        "other characters stay",
        "return ''.join(chr((ord(c) - 97 + {k}) % 26 + 97) if 'a' <= c <= 'z' else c for c in text)",
        (("abc",), ("xyz!",), ("Hello, World",), ("",)),
    ),
    (
        5,
        "flatten",
        "items",
        "one flat list of all numbers in items, a list whose elements are numbers or lists nested to any depth",
        "out = []\n"
        "    for item in items:\n"
        "        out.extend(flatten(item) if isinstance(item, list) else [item])\n"
        "    return out",
        (([1, [2, 3]],), ([],), ([[1], [[2]], 3],), ([1, 2],)),
    ),
    (
        5,
        "anagrams",
        "a, b",
        "True if the words a and b are anagrams of each other, ignoring case, else False",
        "return sorted(a.lower()) == sorted(b.lower())",
        (("Listen", "Silent"), ("ab", "abb"), ("", ""), ("abc", "cab"), ("abc", "abd")),
    ),
)
