"""The experiments of the reports: each question of the three assignments is one file.

    python -m experiments list
    python -m experiments run nonlinearity learning_rate --seeds 3
    python -m experiments report

A file in ``questions/`` defines one experiment, and its name is the experiment's:

- its docstring: the question in a line, the problem that asks it, and what is done about it;
- ``EPOCHS``: how long the runs train;
- ``RUNS``: for each name in the legend what differs from the defaults of ``main.py`` and of the
  model's configuration, such as ``{"model": "mlpmixer", "patch_size": 2, "lr": 1e-4}``;
- ``report(page, groups)``: what the results look like on paper (``page.py``, ``groups.py``);
- if its runs are not those of ``main.py``, ``train(run, settings)``: how one is done;
- if the best settings have to be searched first, ``suggest(trial)`` (``search.py``).

The way of a run: ``plan.py`` gives it a folder, ``execute.py`` a process, ``classify.py`` (or
``regress.py``) trains it, ``groups.py`` reads what it left. A run's folder is named after what
differs from the defaults, so experiments that need the same run share it.
"""
