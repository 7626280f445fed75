"""Installing the reference programs leaves the tested versions as they are."""

from packaging.requirements import Requirement

from .parity import REQUIREMENTS

LOCK = REQUIREMENTS.parents[2] / "requirements.lock"


def pins(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_reference_programs_bring_exact_pins_of_packages_that_the_lock_does_not_have():
    brought = pins(REQUIREMENTS)
    assert {"trl", "verl"} <= {pin.name for pin in brought}
    assert [[specifier.operator for specifier in pin.specifier] for pin in brought] == [["=="]] * len(brought)
    assert {pin.name for pin in brought} & {pin.name for pin in pins(LOCK)} == set()
