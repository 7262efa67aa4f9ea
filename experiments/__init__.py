"""The experiments of the reports: one file per question of the three assignments.

    python -m experiments list
    python -m experiments run nonlinearity learning_rate --seeds 3
    python -m experiments report
    python -m experiments rubric          the measured answers in docs/staff/rubric.md

A file in ``questions/`` defines one experiment and names it:

- its docstring: the question in one line, the problem that asks it, and the method;
- ``EPOCHS``: of each run;
- ``RUNS``: for each name in the legend, the differences from the defaults of ``main.py`` and of the
  model's configuration, such as ``{"model": "mlpmixer", "patch_size": 2, "lr": 1e-4}``;
- ``report(page, groups)``: fills the section of the report (``page.py``, ``groups.py``);
- ``FIRST_SEED``, if the sheet sets a seed;
- ``NETWORKS``, if a model is none of ``main.py``: its name and its class;
- ``train(run, settings)``, if runs are not trained as in ``main.py``;
- ``suggest(trial)``, if the best settings are searched for first (``search.py``).

``plan.py`` gives each run a folder, ``execute.py`` a process; ``classify.py`` or ``regress.py``
trains it, ``groups.py`` reads its results, and ``measure.py`` examines its network. The folder of a
run is named after its differences from the defaults, so experiments that need the same run share
it.
"""
