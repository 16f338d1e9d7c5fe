"""vLLM plug-in: a linear reading of hidden states, returned with every answer as log-probabilities of spare ids."""

__version__ = "0.2.0"

PREFIX = "Confide"
"""What the names of architectures that read themselves start with."""


def register() -> None:
    """Register ``Confide<Architecture>`` for every causal language model of this vLLM.

    Nothing is imported for it: a class is made when a model of that name is loaded, and it says there what it cannot
    do, so that other models of the same vLLM are none the wiser.
    """
    from vllm import ModelRegistry

    known = set(ModelRegistry.get_supported_archs())
    for architecture in sorted(name for name in known if name.endswith("ForCausalLM")):
        name = PREFIX + architecture
        if not architecture.startswith(PREFIX) and name not in known:
            ModelRegistry.register_model(name, f"{__name__}.reading_model:{name}")
