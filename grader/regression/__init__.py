"""The third assignment: its points, cases, mutants and the students' README."""
