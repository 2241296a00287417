"""
What becomes of the host's variables.

Most names are dropped whatever their value is.  What a name alone says is
found once for all payloads under the same rules, and remembered.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple, Optional, Union

from wlcg_isolate._values import IDENTIFIER, is_below, normal_path
from wlcg_isolate.environment.values import EnvDecision, Surroundings, fits_shell
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Request
from wlcg_isolate.variables import CHECKED, family_of, names_of, paths_in

#: What batch systems and sites write for "no GPU" (osg-flock default-image).
_NO_GPU = frozenset(("", "na", "n/a", "none", "void", "nodevfiles", "-1", "10000"))

#: The locales that every C library has.
_ALWAYS = frozenset(("C", "POSIX"))

#: Kind of a family to the profile of `Policy.environment_profiles` in which
#: it passes.
_PROFILE_OF = {"mpi": "mpi"}

_ASKED = {
    "request-keep": "the request asks for it",
    "policy-keep": "policy lets it pass",
    "mpi": "belongs to a parallel job",
}

#: Private to each payload, whatever image and host have there.
_PRIVATE = ("/tmp", "/var/tmp")

#: Names that are remembered for one set of rules.
_MOST_NAMES = 8192


class ByValue(NamedTuple):
    """
    A name whose value decides.

    Attributes:
        kind: Kind of its family, one of `wlcg_isolate._families.CLASSES`.

        by: The rule that lets it pass.
    """

    kind: str
    by: str


class ByName(dict[str, Union[EnvDecision, ByValue]]):
    """
    What a name alone says, under one set of rules.
    """

    def __init__(
        self,
        *,
        drop: tuple[str, ...],
        secret: tuple[str, ...],
        keep: tuple[str, ...],
        asked: tuple[str, ...],
        profiles: tuple[str, ...],
        gpus: bool,
        loader: bool,
    ) -> None:
        super().__init__()
        self._dropped = names_of(drop)
        self._secret = names_of(secret)
        self._kept = names_of(keep)
        self._asked = frozenset(asked)
        self._profiles = frozenset(profiles)
        self._gpus = gpus
        self._loader = loader

    def __missing__(self, name: str) -> Union[EnvDecision, ByValue]:
        if len(self) >= _MOST_NAMES:
            self.clear()
        self[name] = found = self._decide(name)

        return found

    def _decide(self, name: str) -> Union[EnvDecision, ByValue]:
        family = family_of(name)
        rule, reason = self._why_never(name)
        if rule:
            return dropped(name, rule, reason)
        by = "request-keep" if name in self._asked else "policy-keep" if name in self._kept else ""
        if not by and self._passes_unasked(family.kind):
            by = family.rule
        if not by:
            return dropped(name, family.rule, family.reason)

        return ByValue(family.kind, by)

    def _passes_unasked(self, kind: str) -> bool:
        return kind in CHECKED or (kind == "gpu" and self._gpus) or _PROFILE_OF.get(kind) in self._profiles

    def _why_never(self, name: str) -> tuple[str, str]:
        family = family_of(name)
        if family.kind in ("never", "secret"):
            return family.rule, family.reason
        if name in self._secret:
            return "policy-secret", "is a secret of the pilot, policy says"
        if not IDENTIFIER.match(name):
            return "name", "its name is not one that a shell can hold"
        if not self._loader and not fits_shell(name):
            return "shell-owned", "a shell changes or refuses it"
        if name in self._dropped:
            return "policy-drop", "policy lets it never pass"

        return "", ""


#: One for each set of rules that is in use.
_by_name = functools.lru_cache(maxsize=16)(ByName)


class Decider:
    """
    Decides on the host's variables, with what they have in common at hand.

    Attributes:
        by_name: What names alone say.
    """

    def __init__(self, request: Request, policy: Policy, around: Surroundings) -> None:
        self.by_name = _by_name(
            drop=policy.environment_drop,
            secret=policy.environment_secret,
            keep=policy.environment_keep,
            asked=request.keep_env,
            profiles=policy.environment_profiles,
            gpus=bool(policy.gpu_use),
            loader=around.facts.loader_fault is None,
        )
        self._facts = around.facts
        self._places = around.places
        self._hidden = (*_PRIVATE, *dict.fromkeys(place.target for place in around.places))

    def all(self) -> dict[str, EnvDecision]:
        """
        Decide on every host variable.
        """
        known = self.by_name
        decisions = {}
        for name, value in self._facts.environ.items():
            found = known[name]
            decisions[name] = found if type(found) is EnvDecision else self._by_value(name, value, found)  # type: ignore[arg-type]

        return decisions

    def _by_value(self, name: str, value: str, found: ByValue) -> EnvDecision:
        kind, by = found
        if kind in ("path", "output", "scratch"):
            return self._checked(name, value, kind, by)
        if kind == "gpu":
            return self._gpu(name, value, by)
        if kind == "locale":
            return self._locale(name, value, by)

        return self._passed(name, value, by)

    def _passed(self, name: str, value: str, by: str) -> EnvDecision:
        """
        Let a variable pass, its paths as the payload sees them.
        """
        if not paths_in(value):
            return made("keep", name, by, _ASKED[by], value)
        inside = ":".join(self._inside(element) or element for element in value.split(":"))
        if inside == value:
            return made("keep", name, by, _ASKED[by], value)

        return made("translate", name, by, f"{_ASKED[by]}; its paths are those that the payload sees", inside)

    def _checked(self, name: str, value: str, kind: str, by: str) -> EnvDecision:
        """
        Let a variable pass as far as its paths can be seen inside.
        """
        if not paths_in(value):
            # Empty, or a name and no path: nothing can dangle.  But programs
            # take an empty TMPDIR for the current directory, or fail.
            harmless = by in _ASKED and (value or kind != "scratch")
            return made("keep", name, by, "holds no path", value) if harmless else dropped(name, by, "holds no path")
        seen = [self._visible(element, kind) for element in value.split(":")]
        left = [element for element in seen if element is not None]
        gone = len(seen) - len(left)
        if not any(left):
            return dropped(name, by, "nothing it names can be seen inside")
        inside = ":".join(left)
        if inside == value:
            return made("keep", name, by, "what it names can be seen inside", value)

        return made(
            "translate", name, by, f"as the payload sees it{f'; {gone} places cannot be seen' if gone else ''}", inside
        )

    def _visible(self, element: str, kind: str) -> Optional[str]:
        if not element:
            return element
        inside = self._inside(element)
        if inside is not None:
            fact = self._facts.paths.get(normal_path(element))
            gone = fact is not None and fact.state == "missing" and kind != "output"
            return None if gone else inside
        path = normal_path(element)
        if any(path != hidden and is_below(path, hidden) for hidden in self._hidden):
            # Whatever the image has there, something else is mounted over it.
            return None
        image = self._facts.image
        found = None if image is None else image.targets.get(path)

        return element if found is not None and found.kind is not None else None

    def _inside(self, element: str) -> Optional[str]:
        """
        Return the path under which the payload sees a path of the host.
        """
        if not element.startswith("/"):
            return None
        path = normal_path(element)
        for spelling in (path, self._facts.resolved(path)):
            for place in self._places:
                if is_below(spelling, place.source):
                    inside = normal_path(place.target + spelling[len(place.source.rstrip("/")) :])
                    # The same place keeps its spelling, a trailing slash included.
                    return element if inside == path else inside

        return None

    def _gpu(self, name: str, value: str, by: str) -> EnvDecision:
        if value.strip().lower() in _NO_GPU:
            return dropped(name, "gpu", "names no GPU")

        return made("keep", name, by, "says which GPUs are meant", value)

    def _locale(self, name: str, value: str, by: str) -> EnvDecision:
        if value in _ALWAYS or not value:
            return made("keep", name, by, _ASKED[by], value)
        image = self._facts.image
        known = None if image is None else image.locales
        if known is None:
            return dropped(name, "locale", "it is not known whether the image has that locale")
        if value in known or _normal(value) in known:
            return made("keep", name, by, "the image has that locale", value)

        return dropped(name, "locale", "the image does not have that locale")


def _normal(locale: str) -> str:
    """
    Spell ``en_US.UTF-8`` as ``en_US.utf8``.

    The C library looks for a locale as it was asked for, and then for this
    spelling; it does not find ``C.UTF-8`` when asked for ``C.utf8`` (glibc
    2.31, tried).
    """
    language, dot, rest = locale.partition(".")
    codeset, at, modifier = rest.partition("@")

    return language + dot + re.sub(r"[^a-z0-9]", "", codeset.lower()) + at + modifier


def made(decision: str, name: str, rule: str, reason: str, value: Optional[str] = None) -> EnvDecision:
    """
    Make a decision.
    """
    return EnvDecision(name=name, decision=decision, rule=rule, reason=reason, value=value)


@functools.lru_cache(maxsize=8192)
def dropped(name: str, rule: str, reason: str) -> EnvDecision:
    """
    Decide that a variable does not pass; the same every time.
    """
    return EnvDecision(name=name, decision="drop", rule=rule, reason=reason)
