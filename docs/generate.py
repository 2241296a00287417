"""
Write the reference pages and schemas that are made from the code.

Run without arguments to write them; with ``--check`` to fail when one is
stale.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Union

from wlcg_isolate._codes import CONDOR, PANDA, STAND_INS, SYSEXITS, TABLE
from wlcg_isolate._families import CLASSES, FAMILIES
from wlcg_isolate._kinds import KINDS
from wlcg_isolate._wordings import WORDINGS
from wlcg_isolate.host.batch import ELEMENTS, SYSTEMS
from wlcg_isolate.policy import Policy
from wlcg_isolate.policy.explain import plain
from wlcg_isolate.policy.model import FIELDS, RULES
from wlcg_isolate.policy.rules import LAYERS, Rule
from wlcg_isolate.trace.chain import INTEGRITY_FIELDS, JOURNAL_FIELDS
from wlcg_isolate.trace.findings import FINDINGS
from wlcg_isolate.trace.model import FIELDS as RECORDED, MEANINGS, OPEN, Field
from wlcg_isolate.trace.query.columns import COLUMNS, DERIVED
from wlcg_isolate.trace.query.layout import TYPES
from wlcg_isolate.trace.query.payloads import schema as payloads_schema
from wlcg_isolate.trace.record import EVENTS

HERE = Path(__file__).parent
SCHEMAS = HERE.parent / "wlcg_isolate" / "schemas"

sys.path.insert(0, str(HERE))

from compatibility import all_lines, table  # noqa: E402 - a neighbour of this script
from results import outcome_schema, plan_schema  # noqa: E402 - a neighbour of this script
from schemas import of_type, policy_meanings, policy_schema, request_schema, trace_schema  # noqa: E402 - a neighbour of this script


def kinds() -> str:
    """
    Write the page of kinds.
    """
    rows = [
        f"| `{word}` | {kind.failed_by or ''} | {kind.retry or ''} | {kind.meaning} |" for word, kind in KINDS.items()
    ]
    head = [
        "# Kinds",
        "",
        "Every problem and every outcome has one of these words as its `kind`; a published word is never renamed.",
        "This page is made by `docs/generate.py`.",
        "",
        "| kind | failed by | retry | means |",
        "|---|---|---|---|",
    ]

    return "\n".join([*head, *rows, ""])


def mappings() -> str:
    """
    Write the page of what peers call each kind.
    """
    head = "| kind | PanDA | HTCondor | GlideinWMS | OSG hook | sysexits |"
    lines = [_MAPPINGS_HEAD, head, "|---|---|---|---|---|---|"]
    for kind, codes in TABLE.items():
        panda = f"{'' if codes.exact else '~ '}{PANDA[codes.panda]} {codes.panda}"
        condor = f"{CONDOR[codes.condor]} {codes.condor}" if codes.condor else ""
        sysexit = f"{SYSEXITS[codes.sysexit]} {codes.sysexit}" if codes.sysexit else ""
        lines.append(f"| `{kind}` | {panda} | {condor} | {codes.glideinwms or ''} | {codes.osg} | {sysexit} |")
    lines += ["", "## Nearest words", ""]
    lines += [f"* {peer}: {text}" for peer, text in STAND_INS.items()]

    return "\n".join([*lines, ""])


def messages() -> str:
    """
    Write the page of the runtimes' words.
    """
    lines = [_MESSAGES_HEAD, "| kind | words | known from | cause | advice |", "|---|---|---|---|---|"]
    for row in WORDINGS:
        words = row.pattern.replace("|", "\\|")
        lines.append(f"| `{row.kind}` | `{words}` | {row.source} | {row.cause} | {row.advice} |")

    return "\n".join([*lines, ""])


_MAPPINGS_HEAD = """\
# Mappings

What pilots and batch systems call each kind; `wlcg_isolate.mappings` gives it for an outcome.
This page is made by `docs/generate.py`.

| function | gives | for |
|---|---|---|
| `panda(outcome)` | `(code, diagnostics)`, as pilot3's `resolve_transform_error` | `add_error_code`; the payload's own status is `outcome.exit_code` |
| `dirac(outcome)` | `S_OK(status)` or `S_ERROR(message)` as a dictionary | what a computing element's `submitJob` returns |
| `htcondor(outcome)` | `code`, `subcode`, `wrapper_error` | hold (below 1000) or vacate code; the line for the file that `_CONDOR_WRAPPER_ERROR_FILE` names, or None when that file must not exist |
| `glideinwms(outcome)` | an error type, or None | `error_gen -error`, or `-ok` |
| `osg_hook(outcome)` | `status`, `message`, `exit_code` | `HookStatusCode` and `HookStatusMessage` of a prepare hook |
| `htcondor_hook(outcome)` | the same | the same in a pool, which holds a job whose image is missing |
| `sysexit(outcome)` | a number | the exit status of a wrapper |

A payload that ended by itself keeps its own exit status everywhere.
`~` marks the nearest word where a peer has none of its own.
Two codes depend on the signal: PanDA's for `stopped` (1201 to 1208) and for a payload that ended by SIGSEGV (1328).
When one of several problems is wrong everywhere (`retry` is `never`), the job is held, whatever kind comes first.
"""

_MESSAGES_HEAD = """\
# Messages of runtimes

The words by which Apptainer, SingularityCE and Singularity say that they failed, what they mean, and where they are from; the first row that matches counts.
They are read only of a runtime that is known to have failed, or by `classify` for a caller who knows nothing better.
"Seen" is Apptainer 1.4.5; "all 3" is Singularity 3.0 to 3.8, SingularityCE 3.8 to 4.4 and Apptainer 1.0 to 1.5.3, in whose sources the words were found.
This page is made by `docs/generate.py`.
"""


def policy() -> str:
    """
    Write the page of policy keys.
    """
    meanings, defaults = policy_meanings(), Policy()
    lines = [_POLICY_HEAD]
    for section, keys in _sections().items():
        lines += [f"## {section}", "", "| key | kind | may be set by | default | means |", "|---|---|---|---|---|"]
        for key in keys:
            rule, field = RULES[key], FIELDS[key]
            default = json.dumps(plain(getattr(defaults, field)))
            lines.append(f"| `{key}` | {rule.kind}: {rule.merging} | {_who(rule)} | `{default}` | {meanings[field]} |")
        lines.append("")

    return "\n".join(lines)


def variables() -> str:
    """
    Write the page of families of variables.
    """
    lines = [_VARIABLES_HEAD]
    lines += [f"| `{kind}` | {meaning} |" for kind, meaning in CLASSES.items()]
    lines += ["", "## Families", "", "| family | class | names | because it | known from |", "|---|---|---|---|---|"]
    for family in FAMILIES:
        names = ", ".join(f"`{name}`" for name in family.names.split())
        lines.append(f"| {family.rule} | {family.kind} | {names} | {family.reason} | {family.source} |")
    lines += ["| default | drop | all others | no rule and no request asks for it | |", ""]

    return "\n".join(lines)


def journal() -> str:
    """
    Write the page of the journal's fields and findings.
    """
    lines = [_JOURNAL_HEAD, "## In every line", "", "| field | means |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in INTEGRITY_FIELDS.items()]
    lines += ["", "## In the journal's own records", "", "| field | means |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in JOURNAL_FIELDS.items()]
    for harm, title in ((True, "Findings: something was altered or lost"), (False, "Remarks: nothing was")):
        lines += ["", f"## {title}", "", "| kind | means |", "|---|---|"]
        lines += [f"| `{kind}` | {meaning.text} |" for kind, meaning in FINDINGS.items() if meaning.harm == harm]

    return "\n".join([*lines, ""])


_JOURNAL_HEAD = """\
# Journal

What the files of trace records add to the records, and what `wlcg-isolate trace verify` can find in them.
What that proves is told in [what the records prove](../explanation/what-the-records-prove.md).
This page is made by `docs/generate.py`.

A line is `BODY,"hash":"H","mac":"M"}}` and a newline.
`BODY` begins with `{"@timestamp":"` and ends with `"prev_hash":"P"`, in the order of the table; `H` is the SHA-256 of its bytes.
`M` is the HMAC-SHA-256 of `H`, as it is written, with the record's key; the key of the next record is the SHA-256 of `wlcg_isolate journal key`, a NUL byte and the present one.
Records of the journal about itself have the events `log.genesis`, `log.checkpoint`, `log.recovered`, `log.purged` and `log.close`, and an empty `container.id`.
"""


def queries() -> str:
    """
    Write the page of what queries give, and of the columns of Parquet.
    """
    properties = payloads_schema()["items"]["properties"]
    lines = [_QUERIES_HEAD, "| key | type | means |", "|---|---|---|"]
    for key, value in properties.items():
        kind = value.get("type", "one of " + ", ".join(value.get("enum", ())))
        lines.append(f"| `{key}` | {kind if isinstance(kind, str) else ' or '.join(kind)} | {value['description']} |")
    lines += [_COLUMNS_HEAD, "| column | type | from | means |", "|---|---|---|---|"]
    for column in COLUMNS:
        fields = ", ".join(f"`{field}`" for field in column.fields)
        lines.append(f"| `{column.name}` | `{TYPES[column.kind]}` | {fields} | {column.meaning} |")
    lines += [f"| `{name}` | `{TYPES[kind]}` | | {meaning} |" for name, kind, meaning in DERIVED]

    return "\n".join([*lines, ""])


_QUERIES_HEAD = """\
# Payloads in answers, columns in Parquet

What `wlcg-isolate trace find --json` gives and what `wlcg-isolate trace export --parquet` writes.
How to ask is told in [find payloads](../how-to/find-payloads.md).
This page is made by `docs/generate.py`; the first table is also a JSON Schema, `wlcg_isolate/schemas/payloads.schema.json`.

## Payloads

A payload's records are put together in the order of their time.
The first record that holds a field counts; where records that must agree do not, `conflicts` names the field.
What is known of its end is its `state`:

| `state` | means | `state_by` |
|---|---|---|
| `ended` | Its end was recorded. | |
| `refused` | It was never started. | |
| `running` | It has no end, and its process is alive on the node where the question is asked. | `process`; `pilot` where only that is known; with `--alive` also `ancestor`, `namespace` |
| `lost` | It has no end, and nobody can record it any more. | `pilot.end`, `log.close`, `log.recovered`: a later record of its pilot; on its own node also `process-gone`, `pilot-gone`, `reboot` |
| `open` | Nothing shows either. On other nodes a payload that runs is open. | |

That a payload is lost says nothing of how it ended; `over_by` is when the sign of it came.
`conflicts` names `ended` where two records give different ends.
"""

_COLUMNS_HEAD = """
## Other answers

| question | keys with `--json` |
|---|---|
| `trace find --seen KEY` | a list of `value`, `first_seen`, `last_seen`, `payloads` and `refused` (how many) |
| `trace find --bursts N/SECONDS` | a list of `host`, `first`, `last`, `refused` (how many), `users`, `kinds` |
| `trace audit` | `samples`, `coverage`, `findings` (texts; empty when nothing is missing) |
| in `samples` | `trace_id`, `host`, `started`, `traced`, `seconds`, and `owner`, `activity` and `node`, each with `found`, `missing`, `leads_back` and `payloads` |
| in `coverage` | `payloads`, `refused`, `running`, `pilots` (how many); `lost`, `without_end`, `without_batch_job`, `conflicting`, `pilots_without_payloads` (which) |
| with `--batch-jobs` also | `batch_jobs` (how many); `batch_jobs_without_payloads`, `batch_jobs_without_records`, `payloads_of_unknown_batch_jobs` (which) |

## Columns

A directory `day=DAY/site=SITE` holds `records.parquet`, ordered by node and time, and `records-by-user.parquet`, the same rows ordered by user.
A column keeps its name and type; new ones may come.
A value of another type than the column's is NULL there and stays in `extra`.
Parquet is for questions: the integrity of records is proven by the JSON lines, so these are what is kept as evidence.
"""


_VARIABLES_HEAD = """\
# Variables

What host variables are, by their names; the first row that matches counts.
How a variable is decided on is told in [why the environment is clean](../explanation/the-environment.md); `wlcg-isolate plan --why NAME` says it of one.
This page is made by `docs/generate.py`.

| class | means |
|---|---|"""


def trace() -> str:
    """
    Write the page of trace records.
    """
    lines = [_TRACE_HEAD, "| event (`event.action`) | ECS category, type | written |", "|---|---|---|"]
    lines += [f"| `{action}` | {word.category}, {word.type} | {MEANINGS[action]} |" for action, word in EVENTS.items()]
    lines += ["", "## Fields", "", _TRACE_FIELDS, "| field | type | from | in | means |", "|---|---|---|---|---|"]
    for field in RECORDED:
        where = ", ".join(_where(field))
        lines.append(f"| `{field.name}` | {_type(field)} | {field.source} | {where} | {field.meaning} |")
    lines += ["", "## Batch systems and computing elements", "", _TRACE_BATCH]
    for system in (*SYSTEMS, *ELEMENTS):
        others = (*system.queue.split(), *system.slot.split(), *system.submit_host.split())
        words = (
            system.name,
            *map(_names, (system.job, (*system.array, *system.task), others, system.signs)),
            system.source,
        )
        lines.append(f"| {' | '.join(words)} |")
    lines.append("")

    return "\n".join(lines)


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _where(field: Field) -> list[str]:
    """
    Name the events of a field, in few words.
    """
    closed = [action for action in EVENTS if action not in OPEN]
    if len(field.events) == len(EVENTS):
        return ["**all**" if len(field.always) == len(EVENTS) else "all"]
    if set(field.events) == set(closed):
        return ["**all but log**" if len(field.always) == len(closed) else "all but log"]

    return [f"**{action}**" if action in field.always else action for action in field.events]


def _type(field: Field) -> str:
    """
    Name a type in JSON's words.
    """
    found = of_type(field.type)
    if found["type"] != "array":
        return str(found["type"])

    return f"list of {found['items']['type']}s"


_TRACE_HEAD = """\
# Trace records

One JSON object per line, flat, with dotted names.
Names are those of the Elastic Common Schema 9 where it has one, those of OpenTelemetry where that has one, and `wlcg.*` for the rest.
What is not known is left out.
Values of variables, arguments and credentials are not recorded, and [users as the site wants it](../explanation/who-is-recorded.md).
The same as JSON Schema is `wlcg_isolate/schemas/trace.schema.json`, which is part of the package; every record that the tests write is checked against it.
This page is made by `docs/generate.py`.

## Events
"""

_TRACE_BATCH = """\
What of the pilot's environment `wlcg.batch.*` is read from.
The innermost system comes first, and the first variable that is set counts.
Above all of these is HTCondor, whose job is in the file that `_CONDOR_JOB_AD` names, and the factory of a glidein (`GLIDEIN_ClusterId`, `GLIDEIN_ProcId`, `GLIDEIN_Schedd`, `GLIDEIN_Entry_Name`).
Where all tasks of an array have one id (LSF, Grid Engine), `wlcg.batch.job_id` is `ID[TASK]`.

| system | job | array, task | queue, place, submitted from | only with any of | written down in |
|---|---|---|---|---|---|"""

_TRACE_FIELDS = """\
In **bold**: the events that always have the field.
Events `log.*` are the journal's, which adds [fields of its own](journal.md).
"""


def _sections() -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    for key in FIELDS:
        sections.setdefault(key.partition(".")[0], []).append(key)

    return sections


def _who(rule: Rule) -> str:
    layers = [layer for layer in LAYERS if layer in rule.layers and layer != "built-in"]

    return "all" if len(layers) == len(LAYERS) - 2 else ", ".join(layers)


_POLICY_HEAD = """\
# Policy

The keys of policy, in files as `[section]` and `name`, on the command line as `section.name`, and in Python as fields of `Policy` with an underscore for the dot.
How layers are found and merged is told in [site and experiment](../explanation/site-and-experiment.md); `wlcg-isolate explain` shows what holds on a node.
Editors that know JSON Schema complete and check policy files with `wlcg_isolate/schemas/policy.schema.json`, which is part of the package.
This page is made by `docs/generate.py`.

Three kinds of key:

* **limit**: the site's. An experiment or a request can only make it stricter; what would widen it is left out, with a warning.
* **choice**: the last layer that speaks wins.
* **list**: grows; of two binds on one target the first wins, and the other is reported.

Beside the sections a file has `version = 1` (required), `[lock]` (site only: key to `"error"` or `"warning"`) and `[remove]` (key of a list to the names of items that are taken out).
"""


def attempts() -> str:
    """
    Write the page of what hostile payloads and images try.
    """
    lines = [_ATTEMPTS_HEAD]
    for name in _ATTEMPT_FILES:
        module = ast.parse((REDTEAM / f"test_{name}.py").read_text(encoding="utf-8"))
        lines += ["", f"## {_one_line(module)}", "", "| attempt | what is tried |", "|---|---|"]
        lines += [f"| {_words(test.name)} | {_one_line(test)} |" for test in _tests(module)]

    return "\n".join([*lines, ""])


def _tests(module: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def _words(name: str) -> str:
    return name.partition("_")[2].replace("_", " ")


def _one_line(node: Union[ast.Module, ast.FunctionDef]) -> str:
    first = (ast.get_docstring(node) or "").partition("\n\n")[0]

    return " ".join(first.split()).rstrip(".")


REDTEAM = HERE.parent / "tests" / "runtime" / "redteam"

#: In the order of the page; what is missing here is missed by a test.
_ATTEMPT_FILES = ("pilot", "payloads", "escape", "survival", "forgery", "terminal", "images")

_ATTEMPTS_HEAD = """\
# Attempts

What hostile payloads and images try in the tests (`tests/runtime/redteam`), with real Apptainer and real images, as root and as a plain user.
Wherever that is possible the same attempt is made on the node as well, by the same user, where it has to succeed: one that fails in the container for a trivial reason proves nothing.
What the tests hold open is listed in [what isolation means here](../explanation/what-isolation-means.md).
This page is made by `docs/generate.py`."""


def compatibility() -> str:
    """
    Write the page of what each pilot finds served.
    """
    return "\n".join([_COMPATIBILITY_HEAD, *table(all_lines(HERE.parent / "tests")), ""])


_COMPATIBILITY_HEAD = """\
# Compatibility

Which features of each pilot and batch system are served, which differ on purpose, and which are out of scope, and why.
The lines are the marks of the tests that prove them (below `tests/`); a feature without a test is not here.
"Inside the real thing" means that the pilot or batch system itself ran the payload, in real Apptainer; "table" that values were compared, and nothing started.
How test cases of other systems come out is told in [differences](differences.md).
This page is made by `docs/generate.py`."""


def schema(make: Callable[[], dict[str, Any]]) -> str:
    """
    Write a JSON Schema.
    """
    return json.dumps(make(), indent=2) + "\n"


PAGES: Mapping[Path, Callable[[], str]] = {
    HERE / "reference" / "journal.md": journal,
    HERE / "reference" / "attempts.md": attempts,
    HERE / "reference" / "compatibility.md": compatibility,
    HERE / "reference" / "kinds.md": kinds,
    HERE / "reference" / "mappings.md": mappings,
    HERE / "reference" / "messages.md": messages,
    HERE / "reference" / "policy.md": policy,
    HERE / "reference" / "variables.md": variables,
    HERE / "reference" / "trace.md": trace,
    SCHEMAS / "trace.schema.json": lambda: schema(trace_schema),
    HERE / "reference" / "queries.md": queries,
    SCHEMAS / "payloads.schema.json": lambda: schema(payloads_schema),
    SCHEMAS / "policy.schema.json": lambda: schema(policy_schema),
    SCHEMAS / "request.schema.json": lambda: schema(request_schema),
    SCHEMAS / "plan.schema.json": lambda: schema(plan_schema),
    SCHEMAS / "outcome.schema.json": lambda: schema(outcome_schema),
}


def main() -> int:
    """
    Write or check the pages.
    """
    stale = []
    for path, page in PAGES.items():
        if not path.exists() or path.read_text(encoding="utf-8") != page():
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.parent.mkdir(exist_ok=True)
                path.write_text(page(), encoding="utf-8")
    if stale:
        print("stale:" if "--check" in sys.argv else "written:", ", ".join(stale))

    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
