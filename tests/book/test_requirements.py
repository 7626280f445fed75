"""Installing what builds the book leaves the tested versions as they are."""

import json
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def pins(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


BROUGHT, LOCK = pins(ROOT / "book" / "requirements.txt"), pins(ROOT / "requirements.lock")


def test_the_book_brings_exact_pins_of_packages_that_the_lock_does_not_have():
    assert [[specifier.operator for specifier in pin.specifier] for pin in BROUGHT] == [["=="]] * len(BROUGHT)
    assert {pin.name for pin in BROUGHT} & {pin.name for pin in LOCK} == set()


def test_every_package_of_the_extra_is_pinned_in_a_version_that_it_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for wanted in map(Requirement, project["optional-dependencies"]["book"]):
        if wanted.name != "hmpo-lib":
            (pin,) = (pin for pin in BROUGHT + LOCK if pin.name == wanted.name)
            (specifier,) = pin.specifier
            assert specifier.version in wanted.specifier


def test_what_npm_brings_is_pinned_by_its_content_and_by_no_address():
    packages = json.loads((ROOT / "book" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    packages.pop("")
    assert [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []
