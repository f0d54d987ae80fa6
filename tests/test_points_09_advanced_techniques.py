"""Questions of lesson 09."""

EXERCISES = {  # title, difficulty, minutes, when
    "9.10": ("Which road?", 1, 3, "in class"),
    "9.11": ("A small change", 2, 3, "in class"),
}


# BEGIN KEPT BACK
QUESTIONS = {
    "9.10": {
        "a": "Where does the class enter plain rollout?",
        "b": "The gradient is the only place where the class comes in. Whether the answer is good, the controls "
             "must say.",
        "c": "Does this transformer end in pooling over places and one linear layer?",
        "d": "Attention and layer norm need rules of their own; lrp refuses them by name.",
    },
    "9.11": {
        "a": "Noise of that size hardly moves the map. So it is the direction that does it, not the size.",
        "b": "That shows more of the same. What else than the attack could have moved the map?",
        "c": "This tells what the class changes. What in the picture was changed?",
        "d": "Without a reference nobody knows whether any small change would do the same.",
    },
}
# END KEPT BACK
