"""
What becomes of the host's variables.
"""

from __future__ import annotations

import functools
import re
from typing import Optional

from wlcg_isolate._families import Family
from wlcg_isolate._values import IDENTIFIER, is_below, normal_path
from wlcg_isolate.environment.values import EnvDecision, Surroundings, fits_shell
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Request
from wlcg_isolate.variables import family_of, names_of, paths_in

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


def _unfit(name: str) -> tuple[str, str]:
    if not IDENTIFIER.match(name):
        return "name", "its name is not one that a shell can hold"

    return "shell-owned", "a shell changes or refuses it"


class Decider:
    """
    Decides on the host's variables, with what they have in common at hand.
    """

    def __init__(self, request: Request, policy: Policy, around: Surroundings) -> None:
        self._dropped = names_of(policy.environment_drop)
        self._secret = names_of(policy.environment_secret)
        self._kept = names_of(policy.environment_keep)
        self._asked = frozenset(request.keep_env)
        self._profiles = frozenset(policy.environment_profiles)
        self._gpus = bool(policy.gpu_use)
        self._facts = around.facts
        self._places = around.places

    def host(self, name: str, value: str) -> EnvDecision:
        """
        Decide on one host variable.
        """
        family = family_of(name)
        rule, reason = self._why_never(name, family)
        if rule:
            return dropped(name, rule, reason)
        by = "request-keep" if name in self._asked else "policy-keep" if name in self._kept else ""
        if family.kind == "path":
            return self._checked(name, value, by or family.rule)
        if family.kind == "gpu" and (by or self._gpus):
            return self._gpu(name, value, by or family.rule)
        if _PROFILE_OF.get(family.kind) in self._profiles:
            by = by or family.rule
        if not by:
            return dropped(name, family.rule, family.reason)
        if family.kind == "locale":
            return self._locale(name, value, by)

        return self._passed(name, value, by)

    def _why_never(self, name: str, family: Family) -> tuple[str, str]:
        if family.kind in ("never", "secret"):
            return family.rule, family.reason
        if name in self._secret:
            return "policy-secret", "is a secret of the pilot, policy says"
        if self._facts.loader_fault is not None and not fits_shell(name):
            return _unfit(name)
        if name in self._dropped:
            return "policy-drop", "policy lets it never pass"

        return "", ""

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

    def _checked(self, name: str, value: str, by: str) -> EnvDecision:
        """
        Let a variable pass as far as its paths can be seen inside.
        """
        if not paths_in(value):
            # Empty, or a name and no path: nothing can dangle.
            reason = "holds no path"
            return made("keep", name, by, reason, value) if by in _ASKED else dropped(name, by, reason)
        seen = [self._visible(element) for element in value.split(":")]
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

    def _visible(self, element: str) -> Optional[str]:
        if not element:
            return element
        inside = self._inside(element)
        if inside is not None:
            return inside
        image = self._facts.image
        found = None if image is None else image.targets.get(normal_path(element))

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
        if any(_spelled(value) == _spelled(locale) for locale in known):
            return made("keep", name, by, "the image has that locale", value)

        return dropped(name, "locale", "the image does not have that locale")


def _spelled(locale: str) -> str:
    """
    Take ``en_US.UTF-8`` and ``en_US.utf8`` for the same, as the C library does.
    """
    language, dot, codeset = locale.partition(".")

    return language + dot + re.sub(r"[^a-z0-9]", "", codeset.lower())


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
