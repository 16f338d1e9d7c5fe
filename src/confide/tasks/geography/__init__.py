"""The task ``geography``: cities, countries, capitals, currencies and continents of the GeoNames gazetteer."""

from __future__ import annotations

from confide.tasks.geography.place_graders import agrees, grade, graders
from confide.tasks.geography.place_questions import geography_task, prompt

__all__ = ["agrees", "geography_task", "grade", "graders", "prompt"]
