"""The least score of a person who is shown, and stands for a label where nobody labelled.

A person below it is one of the network's many faint candidates: evaluation weighs them, people do not ask for them.
"""

from __future__ import annotations

# By decoding. Joints that grouping leaves over are people of their own, which score more than what is faint among
# offsets: at 0.3 as large a share of those shown are people as with offsets at 0.1 (19 in 20 on rendered pictures,
# where at 0.1 it would be 15), and hardly one of them is lost.
SURE_PERSON = {"offsets": 0.1, "grouping": 0.3}
