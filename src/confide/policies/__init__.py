"""From a confidence to a decision: calibrators, thresholds with a guarantee, policies and their validation.

Everything here works on numbers alone (numpy and scipy, no torch), so records from any system will do.
"""

from confide.policies.calibrators import PlattCalibrator
from confide.policies.policy import Decision, Guarantee, Policy, Rule
from confide.policies.thresholds import BoundedRisk, Unattainable, bounded_risk_threshold
from confide.policies.validation import Validation, validate_policy

__all__ = [
    "BoundedRisk",
    "Decision",
    "Guarantee",
    "PlattCalibrator",
    "Policy",
    "Rule",
    "Unattainable",
    "Validation",
    "bounded_risk_threshold",
    "validate_policy",
]
