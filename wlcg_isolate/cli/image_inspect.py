"""
``wlcg-isolate image inspect``: what an image is and what is inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from wlcg_isolate.cli.image import parser_for
from wlcg_isolate.cli.image_common import path_of, policy_of, problem_of
from wlcg_isolate.cli.output import print_json, report_error, table
from wlcg_isolate.errors import IsolateError, PlanError
from wlcg_isolate.host.inspection import inspect_image
from wlcg_isolate.images.fault import ImageFault

_EPILOG = """\
IMAGE is a path, or a reference as image resolve takes it.  Paths are looked up
inside the image's own root: an absolute link or .. never leads to the host.
Exit status: 0 when it is an image that is whole, 1 otherwise.
"""

_SHOWN_LOCALES = 8


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = parser_for("inspect", _EPILOG)
    parser.add_argument("image", metavar="IMAGE", help="path or reference")
    parser.add_argument("--path", metavar="P", action="append", default=[], help="look this path up inside")
    options = parser.parse_args(argv)
    try:
        policy = policy_of(options)
        path = path_of(options.image, policy)
        try:
            found = inspect_image(path, options.path, policy.touch_seconds(path))
        except ImageFault as fault:
            raise PlanError([problem_of(fault, path)]) from None
    except IsolateError as error:
        report_error(error)
        return 1
    if options.json:
        # One path is the usual case, and then what was found of it stands at the top, too.
        single = found["paths"][0] if len(found["paths"]) == 1 else {}
        print_json({**found, **{name: single[name] for name in ("exists", "kind", "resolves_to") if name in single}})
    else:
        print(table(list(_rows(found))))

    return 0 if found["fault"] is None else 1


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "image", found["path"]
    yield "form", found["form"] + (f" ({found['note']})" if found["note"] else "")
    if found["size"] is not None:
        yield "size", f"{found['size'] / 1e6:.1f} MB, {found['inodes'] or '?'} files and directories"
    if found["fault"] is not None:
        yield "fault", found["fault"]
    label = found["label_architecture"]
    yield "architecture", f"{found['architecture'] or 'unknown'}{f' (label: {label})' if label else ''}"
    if "shell" in found:
        yield from _content_rows(found)
    yield "digest", "{kind} {value}".format(**found["digest"]) if found["digest"]["value"] else "none in its path"
    if found["form"] == "sif":
        yield "SIF", f"{found['uuid']}, {found['signatures']} signatures"
    for look in found["paths"]:
        yield look["path"], _of_path(look)


def _content_rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "system", found["os"].get("pretty_name", "no os-release")
    yield "/bin/sh", "there" if found["shell"] else "missing"
    yield "needs", f"Linux {found['oldest_kernel'] or '?'}, x86-64 level {found['x86_64_level'] or '?'}"
    yield "glibc", found["glibc"] or "none found"
    more = len(found["locales"]) - _SHOWN_LOCALES
    yield "locales", " ".join(found["locales"][:_SHOWN_LOCALES]) + (f" and {more} more" if more > 0 else "")
    yield "sets", " ".join(found["environment"]) if found["singularity_d"] else "no /.singularity.d"
    for name, value in sorted(found["labels"].items()):
        yield "label", f"{name}={value}"


def _of_path(look: dict[str, Any]) -> str:
    if look["reason"]:
        return f"cannot be told: {look['reason']}"
    if not look["exists"]:
        return f"not there{' (a link that leads nowhere)' if look['kind'] == 'link' else ''}"

    return str(look["kind"]) + (f" to {look['resolves_to']}" if look["resolves_to"] != look["path"] else "")
