"""The peer of `bench training`: a plain script with peft and Trainer, as in their documentation. Prints one JSON
object.

usage: plain_lora.py MODEL_FOLDER ROWS.json OUTPUT_FOLDER PARAMETERS.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import datasets
import peft
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

folder, rows, output, parameters = sys.argv[1:]
given = json.loads(Path(parameters).read_text("utf-8"))
tokenizer = AutoTokenizer.from_pretrained(folder)
tokenizer.padding_side = "right"
tokenizer.pad_token = tokenizer.eos_token


def tokenized(row: dict[str, str]) -> dict[str, list[int]]:
    ids = tokenizer(row["text"], truncation=True, max_length=given["cutoff_len"], add_special_tokens=False)["input_ids"]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": ids}


data = datasets.Dataset.from_list(json.loads(Path(rows).read_text("utf-8")))
data = data.map(tokenized, remove_columns=data.column_names)
transformers.set_seed(given["seed"])
model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
model.config.use_cache = False
config = peft.LoraConfig(
    r=given["lora_rank"], lora_alpha=given["lora_alpha"], target_modules=["q_proj", "v_proj"],
    lora_dropout=given["lora_dropout"], bias="none", task_type="CAUSAL_LM",
)  # fmt: skip
model = peft.get_peft_model(model, config)
arguments = TrainingArguments(
    output_dir=output, per_device_train_batch_size=given["micro_batch_size"],
    gradient_accumulation_steps=given["batch_size"] // given["micro_batch_size"], num_train_epochs=given["epochs"],
    learning_rate=given["learning_rate"], lr_scheduler_type="linear", warmup_steps=0, optim="adamw_torch",
    seed=given["seed"], use_cpu=True, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
    dataloader_pin_memory=False,
)  # fmt: skip
trainer = Trainer(
    model=model, args=arguments, train_dataset=data,
    data_collator=DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=8),
)  # fmt: skip
trainer.remove_callback(PrinterCallback)
seconds = trainer.train().metrics["train_runtime"]
tokens = sum(len(row["input_ids"]) for row in data) * given["epochs"]
losses = [each["loss"] for each in trainer.state.log_history if "loss" in each]
print(json.dumps({"tokens_per_second": tokens / seconds, "losses": losses}))
