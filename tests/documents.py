"""A topology document that is good, and some that end the process which loads them; children import them from here."""

from __future__ import annotations

import re

from tests.processes import ROOT

GOOD = (ROOT / "fixtures" / "topologies" / "epyc7763_nps1_smt1.xml").read_text()
CAPACITY = '<memattr name="Capacity" flags="1"><memattr_value target_obj_gp_index="4" target_obj_type="NUMANode" value="5"/></memattr>'

# Each ended the process with libhwloc 2.11, in a NULL dereference or an assertion.
DEADLY = {
    "an info without a name": GOOD.replace("</topology>", "<info/></topology>"),
    "a machine without complete_cpuset": re.sub(' complete_cpuset="[^"]*"', "", GOOD, count=1),
    "a value for the memory attribute Capacity": GOOD.replace("</topology>", f"{CAPACITY}</topology>"),
}
