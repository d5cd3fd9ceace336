# SPDX-License-Identifier: Apache-2.0
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from dvslab import Lab, run  # noqa: E402


def pytest_configure(config):
    if os.geteuid() != 0:
        pytest.exit("system tests need root", 1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """What the daemons of the labs did last goes with the report of a test that failed."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for one in Lab.there:
            report.sections.extend(one.records())


@pytest.fixture(scope="module")
def lab():
    """Three nodes a, b, c, shared by a module's tests: they must leave it as they found it."""
    one = Lab()
    try:
        yield one.up(3)
    finally:
        one.end()


@pytest.fixture
def own_lab():
    """A lab that is not up yet, for one test to spoil."""
    one = Lab()
    try:
        yield one
    finally:
        one.end()


@pytest.fixture
def dc(lab):
    """A container over all nodes, spread, that does nothing. Its name."""
    name = lab.ok("run", "-d", "--image", "host", "--place", "spread", "--", "sleep", "1000").strip()
    try:
        yield name
    finally:
        lab.ok("rm", "-f", name)


@pytest.fixture
def in_dc(lab, dc):
    """in_dc(command, ...): run it in the container `dc`."""
    def call(*command, **options):
        flags = ["-i"] if "stdin" in options else []
        return lab.dvs("exec", *flags, dc, *command, **options)
    return call


@pytest.fixture
def native():
    """native(command, ...): run it on the host."""
    def call(*command, **options):
        return run(list(command), **options)
    return call
