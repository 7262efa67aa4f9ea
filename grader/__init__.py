"""Build handouts and autograders, and grade submissions.

    python -m grader handout cifar10              the students' version, dist/cifar10-handout.zip
    python -m grader build cifar10                the Gradescope autograder
    python -m grader grade cifar10 FOLDER...      grade submissions on this machine
    python -m grader mutants cifar10              grade wrong solutions: does each lose points?

An assignment is a folder here with a ``manifest.py`` (files, problems, functions that students
write) and a ``cases.py`` (the checks). The solution is the project's own code.
"""
