"""The parts of lesson 08: each asks another question of a map."""
