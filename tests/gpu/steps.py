"""The steps of the GPU check, each a function from the work folder and the GGUF to figures. Heavy imports inside."""

from __future__ import annotations

import importlib.metadata
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.gpu import folders
from tests.gpu.figures import Figure, at_least, at_most, same

Step = Callable[[Path, Path], Iterable[Figure]]
NEW = 64


def versions(work: Path, gguf: Path) -> Iterable[Figure]:
    """The GPU, the versions, and how long exllamav2 takes to import (and to compile, the first time)."""
    import torch

    yield Figure("versions", "card", torch.cuda.get_device_name(0))
    for package in ("torch", "transformers", "exllamav2", "flash-attn", "peft"):
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found = "not installed"
        yield Figure("versions", package, found)
    yield Figure("versions", "CUDA of torch", str(torch.version.cuda))
    began = time.monotonic()
    threads = torch.get_num_threads()
    import loaders.exllamav2.native

    assert loaders.exllamav2.native
    yield Figure("versions", "seconds to import exllamav2", f"{time.monotonic() - began:.0f}")
    yield same("versions", "torch's threads before and after the import", torch.get_num_threads() == threads)


def reference(work: Path, gguf: Path) -> Iterable[Figure]:
    """Transformers in float32: replies, and the log-probabilities of a text, plain, guided and under the LoRA."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = folders.smollm(work, gguf)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).cuda().eval()
    found: dict[str, Any] = {"text": np.array(tokenizer(folders.TEXT, add_special_tokens=False).input_ids[:1500])}

    def scores(of: Any) -> Any:
        ids = torch.tensor([found["text"]]).cuda()
        with torch.inference_mode():
            logprobs = torch.log_softmax(of(ids).logits[0, :-1].float(), -1)
        return logprobs.gather(1, ids[0, 1:, None])[:, 0].cpu().numpy()

    found["scores"] = scores(model)
    for place, prompt in enumerate(folders.PROMPTS):
        ids = torch.tensor([tokenizer(prompt, add_special_tokens=False).input_ids]).cuda()
        for kind, more in (("plain", {}), ("guided", {"guidance_scale": 1.5})):
            with torch.inference_mode():
                said = model.generate(ids, do_sample=False, max_new_tokens=NEW, min_new_tokens=NEW, **more)
            found[f"{kind}{place}"] = said[0, ids.shape[1] :].cpu().numpy()
    found["lora"] = scores(PeftModel.from_pretrained(model, folders.lora(work, gguf)))
    np.savez(work / "reference.npz", **found)
    yield Figure("reference", "perplexity", f"{np.exp(-found['scores'].mean()):.4f}")
    yield Figure("reference", "perplexity under the LoRA", f"{np.exp(-found['lora'].mean()):.4f}")


def opened(folder: Path, loader: str = "ExLlamav2", **options: Any) -> Any:
    from loaders import loader_named

    kind = loader_named(loader)
    return kind.load(folder, kind.Options.parse(options), lambda _fraction, _doing: True)


def say(model: Any, ids: Any, count: int = NEW, **params: Any) -> list[int]:
    from loaders.base import Request
    from loaders.params import SamplingParams

    chosen = SamplingParams.parse({"do_sample": False, "ban_eos_token": True, **params})
    return [token.id for token in model.generate(Request(list(ids), chosen, count))]


def prompts(model: Any) -> list[list[int]]:
    return [model.tokenizer.encode(prompt) for prompt in folders.PROMPTS]


def agreement(step: str, model: Any, known: Any, within: float) -> Iterable[Figure]:
    """Perplexity compared with float32, and for how many tokens greedy replies agree before rounding separates them."""
    ratio = float(np.exp(-model.score(known["text"].tolist()).mean() + known["scores"].mean()))
    yield at_most(step, "perplexity against Transformers float32, off by", abs(ratio - 1), within)
    alike = []
    for place, ids in enumerate(prompts(model)):
        pairs = zip(say(model, ids), known[f"plain{place}"].tolist(), strict=False)
        alike.append(next((i for i, (a, b) in enumerate(pairs) if a != b), NEW))
    yield Figure(step, f"greedy tokens alike with float32, of {NEW}, {len(alike)} prompts", str(alike))


def plain(work: Path, gguf: Path) -> Iterable[Figure]:
    """ExLlamaV2 on the unquantized folder against Transformers in float32."""
    with opened(folders.smollm(work, gguf), max_seq_len=4096) as model:
        yield Figure("plain", "notes", "; ".join(model.notes))
        yield from agreement("plain", model, np.load(work / "reference.npz"), 0.005)


def sdpa(work: Path, gguf: Path) -> Iterable[Figure]:
    """Whether exllamav2's own default (SDPA without flash-attn) lacks the causal mask, as in its source."""
    import torch
    from exllamav2 import ExLlamaV2, ExLlamaV2Cache, ExLlamaV2Config

    known = np.load(work / "reference.npz")
    for off in (True, False):
        config = ExLlamaV2Config(str(folders.older(work, gguf)))
        config.no_flash_attn, config.no_sdpa, config.max_seq_len = True, off, 2048
        model = ExLlamaV2(config)
        cache = ExLlamaV2Cache(model, lazy=True)
        model.load_autosplit(cache)
        ids = torch.tensor([known["text"][:512].tolist()])
        logprobs = torch.log_softmax(model.forward(ids, cache)[0, :-1].float(), -1).cpu()
        mean = logprobs.gather(1, ids[0, 1:, None]).mean().item()
        ratio = float(np.exp(-mean + known["scores"][:511].mean()))
        name = f"perplexity over float32, no_sdpa={off}"
        yield at_most("sdpa", name, ratio, 1.01) if off else Figure("sdpa", name, f"{ratio:.4g}")
        model.unload()


def converted(work: Path, gguf: Path) -> Iterable[Figure]:
    """An exl2 by ExLlamaV2's own converter, and the converter's output."""
    folder = folders.exl2(work, gguf)
    with opened(folder, max_seq_len=4096) as model:
        yield Figure("exl2", "notes", "; ".join(model.notes))
        yield from agreement("exl2", model, np.load(work / "reference.npz"), 0.05)


def caches(work: Path, gguf: Path) -> Iterable[Figure]:
    """Each cache type: that it works, and its size."""
    known = np.load(work / "reference.npz")
    for kind, within in (("f16", 0.005), ("q8_0", 0.01), ("q6_0", 0.03), ("q4_0", 0.1)):
        with opened(folders.smollm(work, gguf), max_seq_len=8192, cache_type=kind) as model:
            size = sum(t.nbytes for t in model._weights.cache.all_tensors())
            yield Figure("caches", f"{kind}, 8192 tokens, keys and values", f"{size / 1e6:.0f} MB")
            ratio = float(np.exp(-model.score(known["text"].tolist()).mean() + known["scores"].mean()))
            yield at_most("caches", f"{kind}, perplexity off by", abs(ratio - 1), within)


def cfg(work: Path, gguf: Path) -> Iterable[Figure]:
    """Guidance compared with Transformers' own in float32; then its cost on a billion weights."""
    known = np.load(work / "reference.npz")
    with opened(folders.smollm(work, gguf), max_seq_len=4096) as model:
        alike = []
        for place, ids in enumerate(prompts(model)):
            pairs = zip(say(model, ids, guidance_scale=1.5), known[f"guided{place}"].tolist(), strict=False)
            alike.append(next((i for i, (a, b) in enumerate(pairs) if a != b), NEW))
        yield Figure("cfg", f"greedy tokens alike with float32, of {NEW}", str(alike))
        yield at_least("cfg", "of them, the median", statistics.median(alike), 8)
    with opened(folders.random_llama(work, gguf), max_seq_len=4096) as model:
        rates = alternate(lambda: rate(model), lambda: rate(model, guidance_scale=1.5))
        yield at_least(
            "cfg", f"speed with guidance ({rates[1]:.0f} of {rates[0]:.0f} tokens/s)", rates[1] / rates[0], 0.75
        )


def adapters(work: Path, gguf: Path) -> Iterable[Figure]:
    """A LoRA against PEFT in float32, and the base model's exact output after it."""
    from loaders.base import Lora

    known = np.load(work / "reference.npz")
    with opened(folders.smollm(work, gguf), max_seq_len=4096) as model:
        text = known["text"].tolist()
        before, said = model.score(text), say(model, prompts(model)[0])
        model.set_loras([Lora(folders.lora(work, gguf))])
        ratio = float(np.exp(-model.score(text).mean() + known["lora"].mean()))
        yield at_most("adapters", "perplexity under it, off from PEFT by", abs(ratio - 1), 0.005)
        model.set_loras([])
        yield same("adapters", "scores after it was taken out, to the bit", bool((model.score(text) == before).all()))
        yield same("adapters", "a reply after it was taken out", say(model, prompts(model)[0]) == said)


def parallel(work: Path, gguf: Path) -> Iterable[Figure]:
    """Four requests at once: their replies, and their total speed."""
    from concurrent.futures import ThreadPoolExecutor

    with opened(folders.random_llama(work, gguf), max_seq_len=4096, cache_size=16384) as model:
        yield Figure(
            "parallel", "batched", next(note for note in model.notes if note.startswith(("up to", "requests")))
        )
        alone = rate(model)
        with ThreadPoolExecutor(4) as pool:
            began = time.monotonic()
            counts = list(pool.map(lambda seed: len(say(model, range(seed, seed + 50), 200)), (100, 200, 300, 400)))
        together = sum(counts) / (time.monotonic() - began)
        yield same("parallel", "tokens of each of four, and what was asked for", counts == [200] * 4)
        yield Figure("parallel", "tokens/s of one, and of four together", f"{alone:.0f}, {together:.0f}")


def unload(work: Path, gguf: Path) -> Iterable[Figure]:
    """The GPU's memory before loading and after closing, the second time (the first loads CUDA itself)."""
    import torch

    taken = 0
    for _ in range(2):
        torch.cuda.empty_cache()
        before = torch.cuda.mem_get_info()[0]
        with opened(folders.random_llama(work, gguf), max_seq_len=4096) as model:
            say(model, range(50), 20, guidance_scale=1.5)
            taken = before - torch.cuda.mem_get_info()[0]
        del model
    left = before - torch.cuda.mem_get_info()[0]
    yield Figure("unload", "taken by a billion weights", f"{taken / 1e9:.2f} GB")
    yield at_most("unload", "MB not given back", left / 1e6, 64)


def speed(work: Path, gguf: Path) -> Iterable[Figure]:
    """Our loader compared with its own generator alone, on the same billion weights, alternately."""
    import torch
    from exllamav2.generator import ExLlamaV2DynamicJob, ExLlamaV2Sampler

    with opened(folders.random_llama(work, gguf), max_seq_len=4096) as model:
        weights = model._weights

        def bare() -> float:
            """Its own sampler with the settings of simple-1, while our engine is idle."""
            settings = ExLlamaV2Sampler.Settings(
                temperature=0.7, top_k=20, top_p=0.9, token_repetition_penalty=1.15, token_repetition_range=1024
            )
            settings.disallow_tokens(weights.tokenizer, sorted(model.tokenizer.end_ids))
            ids = torch.tensor([list(range(100))])
            weights.generator.enqueue(ExLlamaV2DynamicJob(ids, 200, gen_settings=settings, seed=1))
            marks: list[float] = []
            while weights.generator.num_remaining_jobs():
                if any(result["stage"] == "streaming" for result in weights.generator.iterate()):
                    marks.append(time.monotonic())
            return (len(marks) - 1) / (marks[-1] - marks[0])

        rates = alternate(bare, lambda: rate(model, **SIMPLE))
        yield at_least(
            "speed", f"of the generator bare ({rates[1]:.0f} of {rates[0]:.0f} tokens/s)", rates[1] / rates[0], 0.97
        )


SIMPLE = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.15, "seed": 1}


def on_torch(work: Path, gguf: Path) -> Iterable[Figure]:
    """The Transformers loader on the GPU, in float16."""
    with opened(folders.smollm(work, gguf), "Transformers", max_seq_len=4096) as model:
        yield Figure("torch", "notes", "; ".join(model.notes))
        yield from agreement("torch", model, np.load(work / "reference.npz"), 0.01)


def hf(work: Path, gguf: Path) -> Iterable[Figure]:
    """ExLlamav2_HF: transformers' own generate gives the native loader's replies; and its speed."""
    with opened(folders.smollm(work, gguf), max_seq_len=4096) as model:
        native = [say(model, ids) for ids in prompts(model)]
    with opened(folders.smollm(work, gguf), "ExLlamav2_HF", max_seq_len=4096) as model:
        yield same(
            "hf", "greedy replies of it and of the native loader", native == [say(model, i) for i in prompts(model)]
        )
    with opened(folders.random_llama(work, gguf), max_seq_len=4096) as model:
        alone = statistics.median(rate(model, **SIMPLE) for _ in range(5))
    with opened(folders.random_llama(work, gguf), "ExLlamav2_HF", max_seq_len=4096) as model:
        wrapped = statistics.median(rate(model, **SIMPLE) for _ in range(5))
    yield at_least("hf", f"of the native loader ({wrapped:.0f} of {alone:.0f} tokens/s)", wrapped / alone, 0.9)


def llama(work: Path, gguf: Path) -> Iterable[Figure]:
    """llama.cpp with no layer, half of the layers and all of them on the GPU."""
    known: dict[str, Any] = {}
    for name, layers in (("none", 0), ("half", 15), ("all", 256)):
        with opened(gguf, "llama.cpp", n_ctx=4096, n_gpu_layers=layers) as model:
            yield Figure("llama", f"{name}: notes", "; ".join(model.notes))
            yield Figure("llama", f"{name}: tokens/s", f"{rate(model):.0f}")
            text = model.tokenizer.encode(folders.TEXT)[:1500]
            known[name] = float(np.exp(-model.score(text).mean()))
            yield at_most(
                "llama", f"{name}: perplexity off from the CPU's by", abs(known[name] / known["none"] - 1), 0.005
            )


def rate(model: Any, **params: Any) -> float:
    """Tokens per second after the first, of a reply of 200 to 100 tokens."""
    from loaders.base import Request
    from loaders.params import SamplingParams

    chosen = SamplingParams.parse({"do_sample": False, "ban_eos_token": True, **params})
    stream = model.generate(Request(list(range(100)), chosen, 200))
    count = sum(1 for _ in stream)
    return float((count - 1) / stream.report.decode_seconds)


def alternate(first: Callable[[], float], second: Callable[[], float], turns: int = 5) -> tuple[float, float]:
    """The medians of two alternating measurements, after a warm-up of each."""
    first(), second()
    pairs = [(first(), second()) for _ in range(turns)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


#: In the order in which they run: later ones use what earlier ones created.
STEPS: Mapping[str, Step] = {
    "versions": versions, "reference": reference, "plain": plain, "sdpa": sdpa, "exl2": converted, "caches": caches,
    "cfg": cfg, "adapters": adapters, "parallel": parallel, "unload": unload, "speed": speed, "hf": hf,
    "torch": on_torch, "llama": llama,
}  # fmt: skip

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
