"""How trained networks are evaluated: inference strategies, confusion facts, and the scores that follow from them."""
