"""Methods compared on real data: `python -m SemiSegLib.benchmark`.

budgets.py    how much computing a cell may take: the settings of `lite`, `strong` and `paper`, in one table
cells.py      a cell of the comparison: data set, labelled count, method, seed; its settings and its command
running.py    cells as child processes: skipped, resumed, run side by side, stopped
results.py    what is kept of a finished cell: one JSON file
paired.py     two methods on the same cases
tables.py     the cells' files as Markdown
plots.py      and as pictures
published.py  figures of the literature, each with its source
"""
