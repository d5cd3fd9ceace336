# SPDX-License-Identifier: Apache-2.0
"""The rules of the primitives in random runs (rules_model.py): one seed is one run. tests/system/rules runs longer ones."""
import pytest

import rules_model


@pytest.fixture(scope="module")
def dc(lab):
    lab.ok("dc", "create", "rules")
    yield lab.containers()["rules"]["id"]
    lab.ok("rm", "-f", "rules")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rules_hold(lab, dc, seed):
    received, _ = rules_model.run(lab, dc, seed, 1500)
    assert received > 200
