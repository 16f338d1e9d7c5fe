"""From a confidence to a decision: calibrators, thresholds with a guarantee, policies and their validation.

Everything here works on numbers alone (numpy, scipy and scikit-learn, no torch), so records from any system will do.
"""

from confide.policies.calibrators import fit_calibrator
from confide.policies.goals import Budget, Costs, FalseAlarms, MatchExpert, MaxRisk
from confide.policies.guarantees import (
    BudgetGuarantee,
    CostEstimate,
    FalseAlarmGuarantee,
    Guarantee,
    MatchGuarantee,
)
from confide.policies.policy import Policy
from confide.policies.policy_fitting import calibrate_policy
from confide.policies.policy_part import Decision, Part, Rule
from confide.policies.profiles import Shift, shift
from confide.policies.thresholds.fallback_testing import Unmet
from confide.policies.validation import Validation, validate_policy

__all__ = [
    "Budget",
    "BudgetGuarantee",
    "CostEstimate",
    "Costs",
    "Decision",
    "FalseAlarmGuarantee",
    "FalseAlarms",
    "Guarantee",
    "MatchExpert",
    "MatchGuarantee",
    "MaxRisk",
    "Part",
    "Policy",
    "Rule",
    "Shift",
    "Unmet",
    "Validation",
    "calibrate_policy",
    "fit_calibrator",
    "shift",
    "validate_policy",
]
