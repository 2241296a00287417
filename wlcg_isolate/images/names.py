"""
What a pilot can write to name an image.

Rules:

1. A reference is a path, a URI, an OCI name (``cmssw/el9:x86_64``) or a plain
   name.  What it is depends on its form alone.
2. A name never leads out of the directory it is looked up in: ``..``, an empty
   part and a leading slash behind a scheme are refused, not cleaned up.
"""

from __future__ import annotations

import re
from typing import Optional, Union

import attrs

from wlcg_isolate.errors import Problem

#: What the runtime takes for a source though there is no ``//`` (Apptainer
#: 1.4, ``apptainer help pull`` and ``build``).
_TRANSPORTS = ("docker-archive:", "docker-daemon:", "oci:", "oci-archive:")

#: The grammar of the OCI distribution specification, "Pulling manifests";
#: upper case is taken, since directories on CVMFS have it.
_PART = r"[A-Za-z0-9]+(?:(?:\.|_{1,2}|-+)[A-Za-z0-9]+)*"
_OCI = re.compile(
    rf"(?P<repository>{_PART}(?::[0-9]+(?=/))?(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?\Z"
)


@attrs.frozen(kw_only=True)
class Reference:
    """
    A name for an image, taken apart.

    Attributes:
        text: As it was given.

        kind: ``"path"``, ``"uri"``, ``"oci"`` or ``"name"``.

        scheme: Of a URI.

        registry: Of an OCI name, or None when it names none.

        repository: Of an OCI name.

        tag: Of an OCI name, or None.

        digest: Manifest digest of an OCI name, or None.
    """

    text: str
    kind: str
    scheme: Optional[str] = None
    registry: Optional[str] = None
    repository: Optional[str] = None
    tag: Optional[str] = None
    digest: Optional[str] = None


def parse_reference(text: str) -> Union[Reference, Problem]:
    """
    Take a reference apart.

    Returns:
        The parts, or what is wrong with it.
    """
    if text.startswith("/"):
        return _invalid(text, "it holds '..'") if ".." in text.split("/") else Reference(text=text, kind="path")
    if "://" in text or text.startswith(_TRANSPORTS):
        return _uri(text)
    if "/" not in text and ":" not in text and "@" not in text:
        return Reference(text=text, kind="name")

    return _oci(text, text)


def _uri(text: str) -> Union[Reference, Problem]:
    if "://" in text:
        # The field's own parser of image URIs, so that both agree on what one is.
        from spython.utils import split_uri

        scheme = str(split_uri(text)[0])
    else:
        scheme = text.partition(":")[0]
    if scheme != "docker":
        return Reference(text=text, kind="uri", scheme=scheme)
    # It names what CVMFS may have under the same name.
    inner = _oci(text, text[len("docker://") :])

    return attrs.evolve(inner, kind="uri", scheme=scheme) if isinstance(inner, Reference) else inner


def _oci(text: str, name: str) -> Union[Reference, Problem]:
    parts = re.split(r"[/]", name)
    if ".." in parts:
        return _invalid(text, "it holds '..'")
    if name.startswith("/"):
        return _invalid(text, "an absolute path stands where a name must be")
    if "" in parts or "." in parts:
        return _invalid(text, "a part of it is empty or '.'")
    match = _OCI.match(name)
    if match is None:
        return _invalid(text, "it is neither a path, a URI, nor a name as registries have them")
    first, slash, rest = match["repository"].partition("/")
    # As Docker tells a registry from the begin of a repository.
    has_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")

    return Reference(
        text=text,
        kind="oci",
        registry=first if has_registry else None,
        repository=rest if has_registry else match["repository"],
        tag=match["tag"],
        digest=match["digest"],
    )


def _invalid(text: str, why: str) -> Problem:
    return Problem(
        kind="image-reference-invalid",
        message=f"{text!r} is no usable image reference: {why}",
        origin="--image",
        advice="name an absolute path, a name of policy, or REPOSITORY:TAG",
    )
