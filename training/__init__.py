"""The machinery behind ``main.py``: what a student reads and runs, but does not have to write.

``run.py`` uses the other files, ``main.py`` uses ``run.py``, and nothing here imports ``main``.
"""
