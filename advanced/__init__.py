"""The parts of lesson 09: relevance, attention, networks of your own, fooled maps."""
