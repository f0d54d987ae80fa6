"""Lesson 08, under construction."""

from course.scenes import planted_scene
from evaluation.deletion_insertion import area_under_curve, deletion_curve, insertion_curve
from evaluation.methods import METHODS
from evaluation.planted_scenes import energy_pointing_game, grid_pointing_game, human_agreement, pointing_game
from evaluation.sanity_checks import parameter_randomization
from evaluation.sensitivity import infidelity, max_sensitivity, sensitivity_n
