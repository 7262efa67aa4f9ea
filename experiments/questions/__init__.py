"""One file per experiment; ``experiments/__init__.py`` describes its content."""
