"""`params.yaml` as it is written, before it is a study: no key twice, and every key there that a stage of dvc.yaml looks up.

DVC asks for each run's own keys, so that a change reruns what it concerns: a key that is missing would stop it. A run therefore
takes its strategies in by alias: a further line under `strategies` then leaves the other runs alone.
"""
import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

HARMLESS = re.compile(r"((packageID|id|file|version|download|dl|raw)=)?\w{1,8}")  # behind an address's ?; else it may be secret


class Loader(yaml.SafeLoader):
    """YAML in which a key that is there twice is a mistake, as DVC has it."""

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
        return node


class StudyError(ValueError):
    """Something in the study's settings or inputs that a person has to mend; the message names it and says how."""


def read(path: Path):
    """What a YAML file holds. StudyError where it cannot be read, or has a key twice."""
    try:
        text = path.read_text("utf-8")
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        raise StudyError(f"{path.name}, {_explained(error, text)}") from None
    except UnicodeDecodeError as error:
        raise StudyError(f"{path} is no text in UTF-8, as which it is to be saved: {error}") from error
    except (OSError, yaml.YAMLError) as error:
        raise StudyError(f"{path}: {error}") from error


def _explained(error: yaml.MarkedYAMLError, text: str) -> str:
    """In one line what is wrong with a `text` that is no YAML, and where."""
    said, line = " ".join(str(error.problem).split()), error.problem_mark.line + 1
    if twice := re.match("found duplicate anchor '(.+)'", error.context or ""):
        return f"line {line}: &{twice[1]} is there twice: *{twice[1]} takes it over"
    if alias := re.fullmatch(r"found undefined alias '(.+)'", said):
        if alias[1] in (anchors := re.findall(r"&([\w-]+)", text)):
            return f"line {line}: *{alias[1]} stands above the line that has &{alias[1]}: move it below"
        if bare := re.search(rf"(?m)^ *{re.escape(alias[1])}:", text):
            place = text.count("\n", 0, bare.start()) + 1
            return f"line {line}: there is no *{alias[1]}: write &{alias[1]} behind {alias[1]}: in line {place}"
        known = difflib.get_close_matches(alias[1], anchors, 1)
        return f"line {line}: there is no *{alias[1]}" + (f" (did you mean *{known[0]}?)" if known else "")
    return f"line {line}: {said}" + ("" if "twice" in said else ": look at indentation, quotes and brackets")


def check_known(key: str, name: str, names, what: str) -> None:
    """ValueError where what is written under `key` is the `name` of a `what` that is not among `names`."""
    if name not in names:
        raise ValueError(f"{key}: there is no {what} {name!r}{suggest(name, names)}")


def suggest(name: str, known) -> str:
    """The end of a message about an unknown name: the closest known one, or all of them."""
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f" (did you mean {close[0]}?)" if close else f"; there are {', '.join(known)}"


def mistakes(error: ValidationError, keys: set[str], raw=None) -> Iterator[str]:
    """What is wrong with settings that are YAML but no study, a line each. keys: all that some section has. raw: the settings,
    whose networks under `zoo` are runs of the study."""
    zoo = (raw.get("zoo") if isinstance(raw, dict) else None) or ()
    found: dict[str, list[str]] = {}
    within = {problem["loc"][:depth] for problem in error.errors() for depth in range(len(problem["loc"]))}
    for problem in error.errors():
        if problem["type"] == "too_short" and problem["loc"] in within:  # what is wrong in a list is not counted
            continue
        key = ".".join(str(part) for part in problem["loc"] if part != "[key]")
        last = key.rpartition(".")[2]
        message = problem["msg"].removeprefix("Value error, ")
        got = f", got {problem['input']!r}"
        if problem["type"] in ("extra_forbidden", "missing", "value_error") or "://" in got:  # an address may have a password
            got = ""
        message = {"extra_forbidden": "unknown key", "missing": "this key is missing", "tuple_type": "a list is wanted, in [ ]",
                   "model_type": "keys and values are wanted here, in { } or below it",
                   "string_pattern_mismatch": "an MD5 has 32 of 0-9, a-f" if last == "md5" else
                   "a name has letters, digits, spaces, - and _ only, at most 40"}.get(problem["type"], message)
        if problem["type"] == "string_type" and problem["loc"][-1] == "[key]":
            message, got = f"YAML takes this name for {problem['input']!r}: write it in quotes", ""
        strange = message == "unknown key" or problem["type"] == "model_type" and last not in keys  # for a recipe of one's own
        if strange and (known := difflib.get_close_matches(last, sorted(keys - {last}), 1)):
            message += f" (did you mean {known[0]}?)"
        found.setdefault(f"{message}{got}" if not key else f"{last}: {message}{got}", []).append(key)
    for message, places in found.items():  # a mistake in a line that others take over (<<) is said once
        alike = "" if message.endswith("missing") else " that take it over"
        others = f"  (and {len(places) - 1} more{alike})" if len(places) > 1 else ""
        prefix = places[0].rpartition(".")[0]
        line = (f"{prefix}." if prefix else "") + message + others
        yield re.sub(r"^runs\.([\w-]+)", lambda key: f"zoo.{key[1]}" if key[1] in zoo else key[0], line)


def no_switch(section: type, value, field):
    """`value`. ValueError where it is yes or no in the place of a number: `accumulate: yes` would be 1, which switches it off."""
    kind = section.model_fields[field.field_name].annotation
    if isinstance(value, bool) and {int, float} & {kind, *get_args(kind)}:
        raise ValueError(f"a number is wanted, got {str(value).lower()}")
    return value


def distinct(values: tuple) -> tuple:
    """`values`. ValueError where one of them, or its name, is there twice."""
    names = [getattr(value, "name", value) for value in values]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} is there twice")
    return values


def without_null(value):
    """A mapping without what is null in it: params.yaml names it for DVC, which looks it up."""
    return {key: kept for key, kept in value.items() if kept is not None} if isinstance(value, dict) else value


def absent(value):
    """None in place of a mapping with nothing but null in it: so params.yaml writes a data set that a scale does not have."""
    return None if isinstance(value, dict) and not without_null(value) else value


def aligned(dataset):
    """The settings of a segmented data set. ValueError where a side is not 16k+1: features lie on the first and last pixel."""
    for key, settings in (dataset.recipes | {"evaluate": dataset.evaluate}).items() if dataset else ():
        for side in settings.canvas if key == "evaluate" else [settings.crop]:
            if side % 16 != 1:
                next_one = side + (1 - side) % 16
                raise ValueError(f"{key} has a side of {side} pixels: write {next_one}, as 16k+1 keeps features aligned")
    return dataset


def without_secret(address: str) -> str:
    """`address`, a URL or path. ValueError where it may have a password or token: DVC copies what it sees into dvc.lock."""
    try:
        parts = urlsplit(address)
    except ValueError:  # nothing can be fetched from it: mirrors.parsed says why
        return address
    login = parts.netloc.rpartition("@")[0]
    behind = f"{parts.query}&{parts.fragment}".split("&") if parts.scheme else []  # in the name of a file ? and # are signs
    values = [each.partition("=")[2] or each for each in behind if not HARMLESS.fullmatch(each)]
    if not all(re.fullmatch(r"\$\{\w+\}", secret) for secret in filter(None, [login.partition(":")[2] or login, *values])):
        raise ValueError("a password or ?KEY=VALUE would reach dvc.lock: write ${NAME} in its place, taken from the environment")
    return address


def by_name(evaluate, strategies):
    """`evaluate` with names in the place of the strategies that it takes in by alias. ValueError where one has no name."""
    if not isinstance(evaluate, dict) or not isinstance(strategies, dict):
        return evaluate
    names = {repr(strategy): name for name, strategy in strategies.items()}
    def named(run, one):
        if isinstance(one, dict) and repr(one) not in names:
            raise ValueError(f"evaluate.{run}: {one} is none of `strategies`: add it there, and take it in by *")
        return names.get(repr(one), one)
    return {run: [named(run, one) for one in some] if isinstance(some, list) else some for run, some in evaluate.items()}


def problems(raw: dict, scale: str, datasets: tuple[str, ...]) -> Iterator[str]:
    """What DVC would not find, not see, or delete, at `scale`: one line each. raw: settings that are a study; datasets: all."""
    for name, some in raw["evaluate"].items():
        for one in some:
            if isinstance(one, str):
                yield f"evaluate.{name}: write *{one}, not {one}: DVC is to see what it is"
    settings = raw["scales"][scale]
    wanted = {f"imagenet.{key}": "the pretraining" for key in ("source", "train", "evaluate")} | {"zoo": "the stage fetch"}
    for name in raw["backbones"]:
        wanted.setdefault(f"network.backbones.{name}", f"the backbone {name}")
    for name in datasets:
        folder = ((settings.get(name) or {}).get("source") or {}).get("folder")
        if folder and any(Path(os.path.realpath(os.path.expanduser(folder))).is_relative_to(os.path.realpath(own))
                          for own in ("artifacts", f"artifacts/{scale}/data/{name}")):  # the second may lie on another disk
            yield f"scales.{scale}.{name}.source.folder: lies in artifacts/, where DVC deletes what it makes anew: move it away"
    for name, run in raw["runs"].items():
        if "recipe" not in run:
            yield f"runs.{name}.recipe: this key is missing; it names the data set's train settings, such as train"
        for key in (run.get("recipe", "train"), "evaluate", "source"):
            wanted.setdefault(f"{run['dataset']}.{key}", f"runs.{name}")
    for name in datasets:
        wanted.setdefault(f"{name}.source", f"download@{name}")
    for key, user in wanted.items():
        found = settings
        for part in key.split("."):
            found = found.get(part, ...) if isinstance(found, dict) else ...
        if found is ...:
            yield f"scales.{scale}.{key}: this key is missing: {user} looks it up; write null where the scale has none"
