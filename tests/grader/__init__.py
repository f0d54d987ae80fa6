"""Grading: the judge asks, and a process of its own answers with the student's code."""
