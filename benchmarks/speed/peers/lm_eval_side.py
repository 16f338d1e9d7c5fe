"""lm-evaluation-harness: generation, then the log-probability of what was generated, on prompts as token text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.speed.peers.side_loop import Config, Work, serve


def prepare(config: Config) -> Mapping[str, Work]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=config["model"], dtype="float32", device="cpu", batch_size=config["lm_eval_batch"])
    prompts = config["prompts"]
    ends = {"until": ["<|im_end|>"], "max_gen_toks": config["max_new_tokens"], "do_sample": False}

    def annotate() -> dict[str, Any]:
        asked = [
            Instance(request_type="generate_until", doc={}, arguments=(prompt["text"], dict(ends)), idx=row)
            for row, prompt in enumerate(prompts)
        ]
        texts = model.generate_until(asked, disable_tqdm=True)
        # As token ids, so that nothing is tokenised at another border than it was written.
        answers = [model.tok_encode(text, add_special_tokens=False) for text in texts]
        known = [row for row, answer in enumerate(answers) if answer]
        pairs = [(("", str(row)), prompts[row]["ids"], answers[row]) for row in known]
        measured = model._loglikelihood_tokens(pairs, disable_tqdm=True)
        sums = [0.0] * len(texts)
        for row, (value, _) in zip(known, measured, strict=True):
            sums[row] = float(value)
        return {"answers": answers, "texts": texts, "logprob_sum": sums}

    same = [model.tok_encode(prompt["text"], add_special_tokens=False) == prompt["ids"] for prompt in prompts]
    if not all(same):
        raise SystemExit("lm_eval reads other tokens than were asked")
    return {"annotate": annotate}


if __name__ == "__main__":
    serve(prepare, ("lm_eval", "torch", "transformers"))
