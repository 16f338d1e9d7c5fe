"""The callback that reports calibration, in real steps of a tiny model under the trainers that people use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from confide.annotation import annotate
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.vocabulary import add_to
from confide.errors import ConfideError
from confide.metrics import auroc, brier
from confide.records import Record, read_records
from confide.tasks import Task
from confide.tasks.graders import Grade
from confide.tasks.questions import Question
from confide.training import CalibrationCallback
from tiny_model import tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

NUMBERS = ("auroc", "brier", "ece", "smooth_ece")
TEXTS = [f"Which country is the city {i} in? Answer: France." for i in range(8)]
PLAIN: dict[str, Any] = {
    "max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "report_to": [], "use_cpu": True, "bf16": False,
    "learning_rate": 1e-2, "per_device_train_batch_size": 4, "per_device_eval_batch_size": 4, "save_strategy": "no",
    "logging_steps": 1, "disable_tqdm": True,
}  # fmt: skip


def lucky(question: Question, answer: str) -> Grade:
    """A grader that a random model gets right now and then."""
    return Grade((len(answer) + int(question.id)) % 3 == 0, answer)


def held_out(count: int = 24) -> Task:
    questions = [
        Question(
            id=str(i), kind="short", question=f"Which country is {'the ' * (i % 5)}city {i} in?", answer=["France"]
        )
        for i in range(count)
    ]
    return Task("held out", questions, grade=lucky, max_new_tokens=6)


def logged(trainer: Any, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def plain_trainer(model: Any, tokenizer: Any, out: Path, **settings: Any) -> Trainer:
    rows = Dataset.from_list([dict(tokenizer(text)) for text in TEXTS])
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    arguments = TrainingArguments(output_dir=str(out), **PLAIN | settings)
    return Trainer(model, arguments, collator, rows, rows, processing_class=tokenizer)


def test_transformers_trainer_logs_what_confidence_is_worth(tmp_path: Path) -> None:
    model, tokenizer = tiny_model()
    settings = {"metric_for_best_model": "eval_logprob_sum_brier", "greater_is_better": False}
    trainer = plain_trainer(model, tokenizer, tmp_path, **settings)
    callback = CalibrationCallback(trainer, held_out())
    trainer.add_callback(callback)
    trainer.train()
    for name in NUMBERS:
        assert len(logged(trainer, f"eval_logprob_sum_{name}")) == 2
    assert len(set(logged(trainer, "eval_logprob_sum_brier"))) == 2  # the model has moved

    # The last numbers are those of an annotation of the trained model.
    found = trainer.evaluate()
    annotate(TransformersEngine(model.eval(), tokenizer), held_out(), tmp_path / "records.jsonl", batch_size=4)
    records = read_records(tmp_path / "records.jsonl")
    sums, right = [sum(record.logprobs or []) for record in records], [bool(record.correct) for record in records]
    assert 0 < sum(right) < len(right)
    assert found["eval_answer_accuracy"] == pytest.approx(np.mean(right))
    assert found["eval_logprob_sum_auroc"] == pytest.approx(auroc(sums, right))
    assert found["eval_logprob_sum_brier"] == pytest.approx(brier(np.exp(sums), right), abs=1e-6)
    assert {record.id for record in callback.records} == {record.id for record in records}


def test_training_is_the_same_with_it(tmp_path: Path) -> None:
    weights = []
    for with_it in (False, True):
        model, tokenizer = tiny_model()
        trainer = plain_trainer(model, tokenizer, tmp_path / str(with_it))
        if with_it:
            trainer.add_callback(CalibrationCallback(trainer, held_out()))
        trainer.train()
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_sft_with_an_adapter_and_verdict_tokens(tmp_path: Path) -> None:
    model, tokenizer = tiny_model()
    verdict = add_to(model, tokenizer)
    with torch.no_grad():  # the two new rows are one until something teaches them apart
        model.get_output_embeddings().weight[verdict.cn] += torch.randn(32)
    config = SFTConfig(output_dir=str(tmp_path), max_length=64, activation_checkpointing=True, **PLAIN)
    rows = Dataset.from_list([{"text": text} for text in TEXTS])
    adapter = LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM")
    trainer = SFTTrainer(model, config, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer,
                         peft_config=adapter)  # fmt: skip
    trainer.add_callback(CalibrationCallback(trainer, held_out(), limit=16))
    trainer.train()
    for source in ("logprob_sum", "self_ref"):
        assert len(set(logged(trainer, f"eval_{source}_brier"))) == 2
    assert len(logged(trainer, "eval_loss")) == 2


def test_grpo(tmp_path: Path) -> None:
    model, tokenizer = tiny_model()
    config = GRPOConfig(output_dir=str(tmp_path), num_generations=2, max_completion_length=4, **PLAIN)
    rows = Dataset.from_list([{"prompt": [{"role": "user", "content": text}]} for text in TEXTS])

    def short(completions: list[Any], **_: Any) -> list[float]:
        return [-float(len(completion[0]["content"])) for completion in completions]

    trainer = GRPOTrainer(model, short, config, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer)
    trainer.add_callback(CalibrationCallback(trainer, held_out()))
    trainer.train()
    assert len(logged(trainer, "eval_logprob_sum_brier")) == 2
    assert len(logged(trainer, "eval_reward")) == 2


def test_records_are_asked_in_their_own_words(tmp_path: Path) -> None:
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which country is Nice in?"}]
    records = [
        Record.model_validate({"id": str(i), "kind": "short", "messages": asked, "reference": ["France"]})
        for i in range(3)
    ]
    trainer = plain_trainer(*tiny_model(), tmp_path)
    callback = CalibrationCallback(trainer, records)
    trainer.add_callback(callback)
    found = trainer.evaluate()
    assert [turn.content for turn in callback.records[0].messages] == ["Be brief.", "Which country is Nice in?"]
    # All are wrong, so that there is no AUROC.
    assert found["eval_answer_accuracy"] == 0
    assert "eval_logprob_sum_auroc" not in found


def test_of_several_data_sets_the_first_asks(tmp_path: Path) -> None:
    trainer = plain_trainer(*tiny_model(), tmp_path)
    trainer.eval_dataset = {"one": trainer.eval_dataset, "two": trainer.eval_dataset}
    trainer.add_callback(CalibrationCallback(trainer, held_out()))
    trainer.evaluate()
    assert len(logged(trainer, "eval_logprob_sum_brier")) == 1


def test_what_cannot_be_asked_is_said_at_once(tmp_path: Path) -> None:
    model, tokenizer = tiny_model()
    trainer = plain_trainer(model, tokenizer, tmp_path)
    with pytest.raises(ConfideError, match="no record has a question with a reference"):
        CalibrationCallback(trainer, [Record(id="1")])
    tokenizer.chat_template = None
    with pytest.raises(ConfideError, match="chat template"):
        CalibrationCallback(trainer, held_out())
    prompts = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    trainer = plain_trainer(prompts, tiny_model()[1], tmp_path)
    with pytest.raises(ConfideError, match="learned prompts"):
        CalibrationCallback(trainer, held_out())
