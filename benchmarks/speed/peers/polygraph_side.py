"""lm-polygraph: answers and their uncertainty by the estimators that need one generation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.speed.peers.side_loop import Config, Work, serve


def prepare(config: Config) -> Mapping[str, Work]:
    import torch
    from lm_polygraph.defaults.register_default_stat_calculators import register_default_stat_calculators
    from lm_polygraph.estimators import MaximumSequenceProbability, MeanTokenEntropy, Perplexity
    from lm_polygraph.utils.builder_enviroment_stat_calculator import BuilderEnvironmentStatCalculator
    from lm_polygraph.utils.dataset import Dataset
    from lm_polygraph.utils.manager import UEManager
    from lm_polygraph.utils.model import WhiteboxModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    class Ending(WhiteboxModel):  # type: ignore[misc]
        """Lets an answer end where it ends: the library asks for two tokens at least, and so for other answers."""

        def generate(self, **settings: Any) -> Any:
            return super().generate(**{name: value for name, value in settings.items() if name != "min_new_tokens"})

    tokenizer = AutoTokenizer.from_pretrained(config["model"], padding_side="left")
    network = AutoModelForCausalLM.from_pretrained(config["model"], dtype=torch.float32).eval()
    model = Ending(network, tokenizer, config["model"])
    texts = [prompt["text"] for prompt in config["prompts"]]
    # What these three estimators do not read (attentions, hidden states) is not kept.
    calculators = register_default_stat_calculators("Whitebox", output_attentions=False, output_hidden_states=False)

    def score() -> dict[str, Any]:
        manager = UEManager(
            data=Dataset(texts, [""] * len(texts), batch_size=config["polygraph_batch"]),
            model=model,
            estimators=[MaximumSequenceProbability(), Perplexity(), MeanTokenEntropy()],
            builder_env_stat_calc=BuilderEnvironmentStatCalculator(model),
            available_stat_calculators=calculators,
            generation_metrics=[],
            ue_metrics=[],
            processors=[],
            ignore_exceptions=False,
            verbose=False,
            max_new_tokens=config["max_new_tokens"],
            save_stats=["entropy", "greedy_log_likelihoods"],
        )
        manager()
        found = {name: [float(value) for value in values] for (_, name), values in manager.estimations.items()}
        tokens = {
            name: [[float(value) for value in row] for row in manager.stats[key]]
            for name, key in (("logprobs", "greedy_log_likelihoods"), ("entropies", "entropy"))
        }
        return {"answers": [list(map(int, ids)) for ids in manager.stats["greedy_tokens"]], "values": found, **tokens}

    return {"score": score}


if __name__ == "__main__":
    serve(prepare, ("lm-polygraph", "torch", "transformers"))
