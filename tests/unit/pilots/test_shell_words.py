"""Lines for a shell, read without one: bash itself says what is right."""

from __future__ import annotations

import subprocess

import pytest

from wlcg_isolate.pilots.shell_words import commands, rewritten

VALUES = {
    "plain": "plain",
    "'$HOME `id`'": "$HOME `id`",
    '"two words"': "two words",
    "a'b'\"c\"d": "abcd",
    r"a\$b\ c": "a$b c",
    r'"a\"b\\c\d"': r'a"b\c\d',
    "": "",
    "''": "",
    "x=y:/z,*?#": "x=y:/z,*?#",
    "'(serverurl=http://a:1/b)(proxyurl=http://c)'": "(serverurl=http://a:1/b)(proxyurl=http://c)",
}

NAMING = ["/a:$HERE", "${HERE}/b", '"$HERE $HERE"', "'$HERE'$HERE", '$HERE"${HERE}"x', "$NOWHERE", '"\\$HERE $HERE"']


def by_bash(assignment):
    """Ask bash what it makes of an assignment."""
    words = ["/bin/bash", "-c", f'{assignment}; printf %s "$A"']

    return subprocess.run(words, env={"HERE": "a 'b'  *"}, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("value", VALUES)
def test_literal(value):
    """A value that names nothing is known, and is what bash makes of it."""
    literal, line = rewritten(value)

    assert VALUES[value] == literal
    assert (literal, literal) == (by_bash(f"export A={line}"), by_bash(f"export A={value}"))


@pytest.mark.parametrize("value", NAMING)
def test_naming(value):
    """A value that names variables is left to the shell, which makes the same of both spellings."""
    literal, line = rewritten(value)

    assert literal is None
    assert by_bash(f"export A={value}") == by_bash(f"export A={line}")


REFUSED = [
    "$(id)",
    "`id`",
    '"$(id)"',
    '"`id`"',
    "${A:-b}",
    "${A/b/c}",
    "$1",
    "$$",
    "$",
    "a;b",
    "a&b",
    "a|b",
    "a>b",
    "(a)",
    "'a",
    '"a',
    "a\\",
]


@pytest.mark.parametrize("value", REFUSED)
def test_needs_a_shell(value):
    """What a shell would execute, expand further or not understand is refused, and nothing of it is shown."""
    with pytest.raises(ValueError, match="needs a shell"):
        rewritten(value)


COMMANDS = {
    "a b; c": [["a", "b"], ["c"]],
    "a 'b; c' && d": [["b"], ["c"], ["a", "b; c"], ["d"]],
    "a#b # c\nd": [["a#b", "#", "c"], ["d"]],
    "bash -c \"x -c 'y z'\"": [["y", "z"], ["x", "-c", "y z"], ["bash", "-c", "x -c 'y z'"]],
    'echo "it\'s"; a': [["echo", "it's"], ["a"]],
    'echo "it\'s one"; a': [["echo", "it's one"], ["a"]],
    "''": [[""]],
}


@pytest.mark.parametrize("line", COMMANDS)
def test_commands(line):
    """A line is taken apart as a shell does, and so are its quoted words."""
    assert COMMANDS[line] == [words for words in commands(line) if words]


def test_open_quote():
    """A line that no shell would take is none."""
    with pytest.raises(ValueError, match="closing"):
        list(commands("a 'b"))
