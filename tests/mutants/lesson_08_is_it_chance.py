"""Answers to the exercise of evaluation/is_it_chance.py; see run.py."""

WIDE = 'wide = rows.pivot_table(index="picture", columns="method", values="value", aggfunc="mean")'
MINUS = "return (wide[first] - wide[second]).dropna()"

WRONG = [
    ("8.8", "nothing computed", "", "return pd.Series(dtype=float)"),
    ("8.8", "zeros", "", "return pd.Series(0.0, index=table['picture'].unique())"),
    ("8.8", "a table is returned", MINUS, "return wide"),
    ("8.8", "second minus first", "wide[first] - wide[second]", "wide[second] - wide[first]"),
    ("8.8", "absolute difference", MINUS, "return (wide[first] - wide[second]).dropna().abs()"),
    ("8.8", "rows subtracted in the order they come", "",
     "rows = table[table['metric'] == metric]\n"
     "a, b = (rows[rows['method'] == name].reset_index(drop=True) for name in (first, second))\n"
     "return pd.Series((a['value'] - b['value']).to_numpy(), index=a['picture'])"),
    ("8.8", "every metric counts", 'rows = table[table["metric"] == metric]', "rows = table"),
    ("8.8", "a missing value counts as 0", MINUS, "return wide[first].fillna(0) - wide[second].fillna(0)"),
    ("8.8", "missing pairs stay as NaN", MINUS, "return wide[first] - wide[second]"),
    ("8.8", "the first detail only", 'aggfunc="mean"', 'aggfunc="first"'),
    ("8.8", "details added up", 'aggfunc="mean"', 'aggfunc="sum"'),
    ("8.8", "difference of the means", MINUS,
     "return pd.Series([wide[first].mean() - wide[second].mean()], index=['all'])"),
    ("8.8", "divided by the second", MINUS, "return ((wide[first] - wide[second]) / wide[second]).dropna()"),
    ("8.8", "only pictures that every method has", "wide = wide.reindex(columns=[first, second])",
     "wide = wide.dropna().reindex(columns=[first, second])"),
]  # fmt: skip

RIGHT = [
    ("8.8", "groupby and unstack", "",
     "rows = table[(table['metric'] == metric) & table['method'].isin([first, second])].dropna(subset=['value'])\n"
     "means = rows.groupby(['picture', 'method'])['value'].mean().unstack()\n"
     "means = means.reindex(columns=[first, second])\nreturn means[first].sub(means[second]).dropna()"),
    ("8.8", "dictionaries", "",
     "def values(method):\n"
     "    found = {}\n"
     "    for row in table.itertuples():\n"
     "        if row.metric == metric and row.method == method and row.value == row.value:\n"
     "            found.setdefault(row.picture, []).append(row.value)\n"
     "    return {picture: sum(some) / len(some) for picture, some in found.items()}\n"
     "a, b = values(first), values(second)\n"
     "return pd.Series({picture: a[picture] - b[picture] for picture in a if picture in b}, dtype=float)"),
]  # fmt: skip
