"""From a confidence to a decision: calibrators, thresholds with a guarantee, policies and their validation.

Everything here works on numbers alone (numpy, scipy and scikit-learn, no torch), so records from any system will do.
"""

from confide.policies.calibrators import (
    BetaCalibrator,
    IsotonicCalibrator,
    PlattCalibrator,
    TemperatureCalibrator,
    fit_calibrator,
)
from confide.policies.costs import Costs
from confide.policies.fitting import Budget, MatchExpert, MaxRisk, Unmet, calibrate_policy
from confide.policies.guarantees import BudgetGuarantee, CostEstimate, Evidence, Guarantee, MatchGuarantee
from confide.policies.policy import Decision, Policy, Rule
from confide.policies.profiles import Shift, shift
from confide.policies.threshold_bound import BoundedRisk, Unattainable, bounded_risk_threshold
from confide.policies.validation import Check, Validation, validate_policy

__all__ = [
    "BetaCalibrator",
    "BoundedRisk",
    "Budget",
    "BudgetGuarantee",
    "Check",
    "CostEstimate",
    "Costs",
    "Decision",
    "Evidence",
    "Guarantee",
    "IsotonicCalibrator",
    "MatchExpert",
    "MatchGuarantee",
    "MaxRisk",
    "PlattCalibrator",
    "Policy",
    "Rule",
    "Shift",
    "TemperatureCalibrator",
    "Unattainable",
    "Unmet",
    "Validation",
    "bounded_risk_threshold",
    "calibrate_policy",
    "fit_calibrator",
    "shift",
    "validate_policy",
]
