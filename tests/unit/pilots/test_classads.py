"""ClassAds of jobs and machines."""

from __future__ import annotations

import sys

import pytest

from wlcg_isolate.errors import RequestError
from wlcg_isolate.pilots.classads import environment_of, parse_ad, read_ad

LITERALS = {
    'K = "rhel7"': "rhel7",
    'k="rhel7"': "rhel7",
    'K = "docker://r/img?x=1:t"': "docker://r/img?x=1:t",
    'K = "A=1 B=2"': "A=1 B=2",
    'K = "this is undefined"': "this is undefined",
    'K = "a \\"b\\" \\\\ c"': 'a "b" \\ c',
    "K = 7": 7,
    "K = -1": -1,
    "K = 3.5": 3.5,
    "K = 1e3": 1000.0,
    "K = TRUE": True,
    "K = false": False,
    "K = UNDEFINED": None,
    "K = error": None,
    "K = ": None,
    "OTHER = 1": None,
    "": None,
    '[ K = "x"; L = 2 ]': "x",
    '[ L = "[;"; N = [ K = 1; M = 2 ]; K = "x;y" ]': "x;y",
    "[ N = [ A = 1; K = 2; B = 3 ]; ]": None,
    '[\nK = "x";\nL = 2;\n]': "x",
}


@pytest.mark.serves("glideinwms", "job and machine ClassAds")
@pytest.mark.parametrize("text", LITERALS)
def test_literals(text):
    """A value is read whole, whatever it holds; names have no case."""
    assert LITERALS[text] == parse_ad(text).get("K")


TRUTHS = {
    "true": True, "2": True, "1": True, "False": False, "0": False, "UNDEFINED": None, '"NotTrue"': None,
    "-1": True, "3.5": True,
}  # fmt: skip


@pytest.mark.differs(
    "glideinwms",
    "truth values of ClassAds",
    "numbers other than 0 are true, as for HTCondor; a text is none, whatever it holds",
)
@pytest.mark.parametrize("text", TRUTHS)
def test_truth(text):
    """What is no truth value is the default."""
    ad = parse_ad(f"K = {text}")
    expected = TRUTHS[text]

    assert [bool(expected), True if expected is None else expected] == [ad.truth("K"), ad.truth("k", default=True)]


def test_bad_lines_are_listed():
    """What cannot be read is told, and loses nothing else."""
    ad = parse_ad("A = 1\nnot a line\nB = ][\nC = 2\n# comment\n\nA = 3")

    assert {"a": 3, "c": 2} == dict(ad)
    assert {"not a line", "B"} == set(ad.unread)


@pytest.fixture
def without_library(monkeypatch):
    """A node that lacks HTCondor's library."""
    monkeypatch.setitem(sys.modules, "classad2", None)


def test_expressions_without_the_library(without_library):
    """An expression that nobody can evaluate counts as undefined, and is listed."""
    ad = parse_ad("A = 1\nB = A + 1")

    assert ({"a": 1}, ("B",)) == (dict(ad), ad.unread)


EXPRESSIONS = {
    "B": 2, "C": None, "U": None, "E": None, "S": "ab", "T": True, "R": 7.0, "L": None, "LATER": 5,
}  # fmt: skip


@pytest.mark.serves("htcondor", "expressions in ClassAds (extra [htcondor])")
def test_expressions_with_the_library():
    """HTCondor's own library evaluates expressions; what it cannot read loses that line only."""
    ad = parse_ad(
        'A = 1\nW = ][\nB = A + 1\nC = NoSuch > 1\nU = NoSuch\nE = 1/0\nS = strcat("a","b")\nT = B > 1\nR = 3.5*2\n'
        "L = {1,2}\nN = [x=1]\nB = A + 1\nB = A + 1\nLATER = B + 3\nONCE = A + 1\nONCE = 3"
    )

    assert EXPRESSIONS == {name: ad.get(name) for name in EXPRESSIONS}
    assert (("W",), 3) == (ad.unread, ad["once"])


def test_environment_that_is_an_expression():
    """What HTCondor would give the job is known, and checked as any other."""
    assert {"X": "1"} == environment_of(parse_ad('Environment = strcat("X=","1")'))


ENVIRONMENTS = {
    "V2": ("A=1 B='x y' C='it''s' D=a=b E=", {"A": "1", "B": "x y", "C": "it's", "D": "a=b", "E": ""}),
    "blanks": ("  A=1\tB=2  ", {"A": "1", "B": "2"}),
    "whole-word-quoted": ("'A=x y'", {"A": "x y"}),
    "empty": ("", {}),
}


@pytest.mark.serves("htcondor", "the job ad's Environment")
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment(name):
    """The variables of a job are read with their values."""
    text, expected = ENVIRONMENTS[name]

    assert expected == environment_of(parse_ad(f'Environment = "{text}"'))


def test_other_forms_of_environment():
    """The older form, and the one that upstream's fixtures have."""
    assert {"A": "1", "B": "x y"} == environment_of(parse_ad('Env = "A=1;B=x y"'))
    assert {"FOO": "something", "BAR": "yes=no"} == environment_of(
        parse_ad('Environment = FOO="something" BAR="yes=no"')
    )
    assert {} == environment_of(parse_ad("A = 1"))


OLD = {
    'Env = "A=1|B=2"\nEnvDelim = "|"': {"A": "1", "B": "2"},
    'Env = "|A=1;2|B=2"': {"A": "1;2", "B": "2"},
    'Env = "A=1\\nB=2; C=3"': {"A": "1", "B": "2", "C": "3"},
    'Env = ";A=1"\nEnvDelim = "|"': {"A": "1"},
    'Env = "A=1"\nEnvironment = "B=2"': {"B": "2"},
    'Env = "A=1"\nEnvironment = 7': {"A": "1"},
}


@pytest.mark.parametrize("text", OLD)
def test_older_form(text):
    """No variable hides from us behind another delimiter, as HTCondor reads them."""
    assert OLD[text] == environment_of(parse_ad(text))


@pytest.mark.parametrize("text", ['Env = strcat("A=1")', 'Env = "A=1"\nEnvDelim = strcat("|")'])
def test_older_form_that_is_an_expression(without_library, text):
    """What cannot be evaluated is refused, not taken for nothing."""
    with pytest.raises(RequestError, match="expression"):
        environment_of(parse_ad(text))


def test_environment_that_names_an_attribute(without_library):
    """For HTCondor the word is the attribute's value, which could set anything."""
    with pytest.raises(RequestError, match="names an attribute"):
        environment_of(parse_ad('FOO = "B=1"\nEnvironment = FOO="x"'))


@pytest.mark.parametrize("text", ["A", "=1", "A='open", "A=1 B"])
def test_bad_environment(text):
    """A word that sets nothing is an error."""
    with pytest.raises(RequestError, match="Environment"):
        environment_of(parse_ad(f'Environment = "{text}"'))


def test_read_ad(tmp_path):
    """A file that is missing is an error; any bytes can be read."""
    (tmp_path / "ad").write_bytes(b'A = "\xff"\n')

    assert "\udcff" == read_ad(str(tmp_path / "ad")).text("a")
    with pytest.raises(RequestError, match="cannot be read"):
        read_ad(str(tmp_path / "none"))


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r"])
def test_text_ends_no_line(end):
    """A user's text cannot set another attribute: only a line feed ends a line."""
    ad = parse_ad(f'GlobalJobId = "mine"\nNote = "x{end}GlobalJobId = 7{end}"\n')

    assert "mine" == ad["GlobalJobId"]


@pytest.mark.parametrize("text", ['strcat("A=1")', 'A=="b"?"B=1":""', 'ifThenElse(true,"A=1","")'])
def test_environment_that_nobody_can_read(without_library, text):
    """An expression is no list of variables; what it sets is not guessed."""
    with pytest.raises(RequestError, match=r"\[htcondor\]"):
        environment_of(parse_ad(f"Environment = {text}"))
