"""Answers to the exercise of lesson 08; see run.py."""

JUSTIFIED = 'justified = judge(reported)["verdict"]'
DIFFERS = 'justified != reported["verdict"]'

WRONG = [
    ("8.9", "nothing computed", "", "return []"),
    ("8.9", "nothing computed: all claims", "", "return reported['claim'].tolist()"),
    ("8.9", "the justified ones", DIFFERS, 'justified == reported["verdict"]'),
    ("8.9", "p not corrected", JUSTIFIED,
     "justified = pd.concat([judge(reported.iloc[[i]]) for i in range(len(reported))])['verdict']"),
    ("8.9", "the number of pictures ignored", "judge(reported)", "judge(reported, smallest=1)"),
    ("8.9", "from eleven pictures on", "judge(reported)", "judge(reported, smallest=11)"),
    ("8.9", "few pictures only", "", "return reported.loc[reported['n'] < 10, 'claim'].tolist()"),
    ("8.9", "p ignored", "judge(reported)", "judge(reported.assign(p=0.0))"),
    ("8.9", "the direction ignored", DIFFERS,
     '(justified != reported["verdict"]) & ~(justified.isin(["holds", "does not hold"])'
     ' & reported["verdict"].isin(["holds", "does not hold"]))'),
    ("8.9", "claims that are said to hold only", DIFFERS,
     '(justified != reported["verdict"]) & (reported["verdict"] == "holds")'),
    ("8.9", "row numbers", '"claim"].tolist()', '"claim"].index.tolist()'),
    ("8.9", "verdicts instead of claims", '"claim"].tolist()', '"verdict"].tolist()'),
    ("8.9", "every claim counts in the correction", "judge(reported)", "judge(reported, smallest=0)"),
]  # fmt: skip

RIGHT = [
    ("8.9", "row by row", "",
     "judged = judge(reported)\n"
     "pairs = zip(reported['claim'], reported['verdict'], judged['verdict'], strict=True)\n"
     "return [claim for claim, said, right in pairs if said != right]"),
    ("8.9", "by hand", "",
     "from scipy.stats import false_discovery_control\n"
     "enough = reported[reported['n'] >= 10]\n"
     "corrected = dict(zip(enough.index, false_discovery_control(enough['p']), strict=True)) if len(enough) else {}\n"
     "found = []\n"
     "for i, row in reported.iterrows():\n"
     "    right = 'undecided' if i in corrected else 'too few pictures'\n"
     "    if corrected.get(i, 1) <= 0.05 and (row['low'] > 0 or row['high'] < 0):\n"
     "        right = 'holds' if (row['low'] > 0) == (row['side'] == 'above') else 'does not hold'\n"
     "    if right != row['verdict']:\n"
     "        found.append(row['claim'])\n"
     "return found"),
]  # fmt: skip
