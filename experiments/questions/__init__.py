"""One file an experiment; ``experiments/__init__.py`` says what is in it."""
