"""Lesson 09, under construction."""

from advanced.attention_rollout import attention_rollout
from advanced.lrp import lrp
