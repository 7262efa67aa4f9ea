"""The machinery behind ``main.py`` and ``test.py``: what students read and run, but do not write.

``run.py`` uses the other files, ``main.py`` uses ``run.py``, and nothing here imports ``main``.
"""
