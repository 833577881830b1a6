"""How users name a model of the hub, and which files are downloaded then."""

from __future__ import annotations

import itertools

import pytest

from errors import InvalidInput
from modules.library.hub_address import HubAddress, parse_address
from modules.library.hub_files import RemoteFile, list_file_choices, list_model_folders, select_files

MODEL = HubAddress("ann/tiny")
GGUF = HubAddress("ann/tiny", "main", ("a b.gguf",))

_SAME = {
    MODEL: (
        "ann/tiny", " ann/tiny/ ", "https://huggingface.co/ann/tiny/", "http://huggingface.co/ann/tiny",
        "huggingface.co/ann/tiny", "www.huggingface.co/ann/tiny", "HuggingFace.co/ann/tiny", "hf.co/ann/tiny",
        "https://hf-mirror.com/ann/tiny", "https://hub.example:8080/ann/tiny", "hf://ann/tiny", "hf://models/ann/tiny",
        "https://huggingface.co/ann/tiny/tree/main", "https://huggingface.co/ann/tiny/tree/main/",
        "https://huggingface.co/ann/tiny?library=transformers#usage", "https://huggingface.co/ann/tiny/discussions/3",
        "https://huggingface.co/api/models/ann/tiny", "https://huggingface.co/ann/tiny.git",
        "git@hf.co:ann/tiny", "git@hf.co:ann/tiny.git", "ssh://git@hf.co/ann/tiny",
        "git clone https://huggingface.co/ann/tiny",
        "hf download ann/tiny", "huggingface-cli download ann/tiny --local-dir models/x", "ann/tiny:latest",
        "ollama run hf.co/ann/tiny", "llama-server -hf ann/tiny", '"ann/tiny"', "`ann/tiny`", "<https://hf.co/ann/tiny>",
        "[tiny](https://huggingface.co/ann/tiny)", "ann\\tiny", "ann/\u200btiny\ufeff",
        "https://huggingface.co//ann//tiny", "https://user:secret@huggingface.co/ann/tiny",
        "https://huggingface.co/ann/tiny/commits/main", "'ann/tiny',", '"ann/tiny";', "\u201cann/tiny\u201d",
        "\u00abann/tiny\u00bb", "<ann/tiny>,", "(ann/tiny).", "ann / tiny", "ann\n/\ntiny", "model: ann/tiny",
        "hf:ann/tiny", "huggingface:ann/tiny", "huggingface://ann/tiny", "lmstudio://open_from_hf?model=ann/tiny",
        "LMStudio://open_from_hf/?model=ann%2Ftiny", "[Open](lmstudio://open_from_hf?model=ann/tiny)",
        "LM Studio: lmstudio://open_from_hf?model=ann/tiny", "jan://models/huggingface/ann/tiny",
        "msty://models/search/hf/ann/tiny", "jellybox://llm/models/huggingface/LLM/ann/tiny",
        "recursechat://new-hf-gguf-model?hf-model-id=ann/tiny", "https://backyard.ai/hf/model/ann/tiny",
        "https://model.lmstudio.ai/download/ann/tiny", "-hf ann/tiny", "--model ann/tiny", "FROM ann/tiny",
        "- ann/tiny", "* ann/tiny", "1. ann/tiny", "12) ann/tiny", "\u2022 https://hf.co/ann/tiny", "**ann/tiny**",
        "- **ann/tiny**", "*ann/tiny*", "__ann/tiny__", "- `ann/tiny`", "- [tiny](https://huggingface.co/ann/tiny)",
        "export HF_ENDPOINT=https://hf-mirror.com; hf download ann/tiny", "bash hfd.sh ann/tiny -x 4",
        "set HF_ENDPOINT=https://hf-mirror.com && hf download ann/tiny", "localai run huggingface://ann/tiny",
    ),
    GGUF: (
        "https://huggingface.co/ann/tiny/resolve/main/a%20b.gguf?download=true",
        "https://huggingface.co/ann/tiny/blob/main/a%20b.gguf", "huggingface.co/ann/tiny/raw/main/a b.gguf",
        "https://huggingface.co/ann/tiny?show_file_info=a%20b.gguf",
        "https://huggingface.co/ann/tiny/tree/main?show_file_info=a+b.gguf", "hf://ann/tiny/a%20b.gguf",
        "lmstudio://open_from_hf?model=ann/tiny&file=a%20b.gguf", "ann/tiny a b.gguf",
        "https://hf.co/ann/tiny a b.gguf", "ann/tiny/a%20b.gguf",
        "https://huggingface.co/api/models/ann/tiny/resolve/main/a%20b.gguf",
    ),
    HubAddress("ann/tiny", "main", ("Q4_K_M",)): (
        "ann/tiny:Q4_K_M", "hf.co/ann/tiny:Q4_K_M", "ollama run hf.co/ann/tiny:Q4_K_M", "llama-cli -hf ann/tiny:Q4_K_M",
        "hf download ann/tiny --include '*Q4_K_M*'", "https://huggingface.co/ann/tiny:Q4_K_M",
        "llama-server --hf-repo ann/tiny:Q4_K_M -c 4096", "ann/tiny@Q4_K_M", "lms get ann/tiny@Q4_K_M",
        "https://huggingface.co/ann/tiny@Q4_K_M", "hf.co/ann/tiny:i1-Q4_K_M", "ann/tiny:Q4_K_M.", "ann/tiny:Q4_K_M,",
        "ann/tiny Q4_K_M", "ann/tiny  (Q4_K_M)", "ann/tiny, Q4_K_M", "ann/tiny - Q4_K_M", "ann/tiny [Q4_K_M]",
        '"ann/tiny" "Q4_K_M"', '"ann/tiny Q4_K_M",', "https://huggingface.co/ann/tiny Q4_K_M",
        "hf.co/ann/tiny i1-Q4_K_M",
        "https://huggingface.co/ann/tiny/tree/main Q4_K_M", "Model: ann/tiny (Q4_K_M)", '"ann/tiny:Q4_K_M",',
    ),
    HubAddress("ann/tiny", "0123456789abcdef"): ("https://huggingface.co/ann/tiny/commit/0123456789abcdef",),
    HubAddress("ann/tiny", "main", ("MXFP4_MOE",)): ("ann/tiny:MXFP4_MOE", "ollama run hf.co/ann/tiny:MXFP4_MOE"),
    HubAddress("ann/tiny", "main", ("FP16",)): ("ann/tiny:FP16", "hf download ann/tiny --include '*FP16*'"),
    HubAddress("ann/tiny", "refs/pr/1"): (
        "ann/tiny:refs/pr/1", "ann/tiny@refs/pr/1", "hf.co/ann/tiny@refs/pr/1",
        "https://huggingface.co/ann/tiny/tree/refs%2Fpr%2F1",
    ),
    HubAddress("ann/tiny", "main", ("UD-Q4_K_XL",)): (
        "https://huggingface.co/ann/tiny/tree/main/UD-Q4_K_XL", "ann/tiny:UD-Q4_K_XL",
        "hf download ann/tiny --include 'UD-Q4_K_XL/*' --local-dir models/x",
        "huggingface.co/ann/tiny/tree/main/UD-Q4_K_XL/",
    ),
    HubAddress("ann/tiny", "refs/pr/1", ("x.gguf",)): (
        "https://huggingface.co/ann/tiny/blob/refs%2Fpr%2F1/x.gguf", "hf.co/ann/tiny/resolve/refs/pr/1/x.gguf",
        "hf download ann/tiny x.gguf --revision refs/pr/1",
    ),
    HubAddress("ann/tiny", "4.0bpw"): (
        "ann/tiny:4.0bpw", "https://huggingface.co/ann/tiny/tree/4.0bpw", "ann/tiny@4.0bpw", "hf://ann/tiny@4.0bpw",
        "ann/tiny 4.0bpw", "git clone --branch 4.0bpw https://huggingface.co/ann/tiny",
    ),
    HubAddress("ann/tiny", "main", ("a/b.gguf",)): (
        "https://hub.example/ann/tiny/resolve/main/a/b.gguf", "ann/tiny/a/b.gguf",
    ),
    HubAddress("ann/tiny", "main", ("x.gguf",)): ("hf download ann/tiny x.gguf", "ann/tiny:x.gguf"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "address"), [(text, address) for address, all_ in _SAME.items() for text in all_])
def test_every_form_that_people_paste(text: str, address: HubAddress) -> None:
    assert parse_address(text) == address


_STARTS = (
    "{}", "$ {}", "!{}", "HF_TOKEN=x HF_HUB_ENABLE_HF_TRANSFER=1 {}", "sudo {}", "pip install -U hf && {}",
    "user@host:~$ {}", "(base) me@pc ~ % {}", "[root@box x]# {}", "C:\\> {}", "PS C:\\Users\\me> {}",
    "# first\n{}\n", "git lfs install\n{}", "`{}`", "{} && ls models", "{} > log.txt",
)  # fmt: skip
_COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "hf download ann/tiny": ("main", ()),
    "hf download --quiet ann/tiny x.gguf --local-dir models/x": ("main", ("x.gguf",)),
    "uvx hf download ann/tiny a.gguf 'b c.gguf'": ("main", ("a.gguf", "b c.gguf")),
    "hf download ann/tiny \\\n  a.gguf \\\n  --revision 4.0bpw": ("4.0bpw", ("a.gguf",)),
    "hf download ann/tiny --include '*Q4_K*gguf' --max-workers 4": ("main", ("*Q4_K*gguf",)),
    'hf download ann/tiny --include "*mmproj-F16*" "*UD-Q4_K_XL*"': ("main", ("*mmproj-F16*", "UD-Q4_K_XL")),
    'hf download ann/tiny --include "*Q4_K_M*" --include "*.json" --exclude "*.md"': ("main", ("Q4_K_M", "*.json")),
    "hf download ann/tiny --exclude x.bin y.bin --repo-type model": ("main", ()),
    "huggingface-cli download ann/tiny x.gguf --local-dir . --local-dir-use-symlinks False": ("main", ("x.gguf",)),
    "huggingface-cli download --local-dir-use-symlinks False ann/tiny x.gguf": ("main", ("x.gguf",)),
    "./llama.cpp/llama-cli -hf ann/tiny:Q4_K_M --threads -1 --temp 0.6 --top-p 0.95": ("main", ("Q4_K_M",)),
    "llama-server --host 0.0.0.0 --port 8080 -hf ann/tiny:Q4_K_M -ngl 99": ("main", ("Q4_K_M",)),
    ".\\build\\llama-server.exe -hf ann/tiny:Q4_K_M -fa on": ("main", ("Q4_K_M",)),
    "llama-server -hf ann/tiny:Q8_0 -hfd bob/small-0.5B:Q8_0": ("main", ("Q8_0",)),
    "llama-server --hf-repo ann/tiny --hf-file x.gguf -c 2048": ("main", ("x.gguf",)),
    "vllm serve 'ann/tiny' --gpu-memory-utilization 0.9": ("main", ()),
    "vllm serve --dtype auto ann/tiny --revision 4.0bpw --max-model-len 8.5": ("4.0bpw", ()),
    "python3 -m sglang.launch_server --model-path ann/tiny --host 0.0.0.0": ("main", ()),
    "docker model run hf.co/ann/tiny:Q4_K_M": ("main", ("Q4_K_M",)),
    "ollama run --verbose hf.co/ann/tiny:Q4_K_M": ("main", ("Q4_K_M",)),
    "ollama run hf.co/ann/tiny:Q4": ("main", ("Q4",)),
    "ramalama run hf://ann/tiny/x.gguf": ("main", ("x.gguf",)),
    "npx -y node-llama-cpp pull hf:ann/tiny:Q4_K_M": ("main", ("Q4_K_M",)),
    "mistralrs run -m ann/tiny": ("main", ()),
    "hf download ann/tiny --include \u201c*Q4_K_M*\u201d": ("main", ("Q4_K_M",)),
    "git clone -b 4.0bpw https://huggingface.co/ann/tiny models/x": ("4.0bpw", ()),
    "git clone --depth 1 --single-branch --branch=4.0bpw https://huggingface.co/ann/tiny": ("4.0bpw", ()),
    "wget -O models/y.gguf 'https://hf.co/ann/tiny/resolve/main/x.gguf?download=true'": ("main", ("x.gguf",)),
    "curl -L -O https://huggingface.co/ann/tiny/resolve/main/x.gguf": ("main", ("x.gguf",)),
    "aria2c -x 16 -d models https://huggingface.co/ann/tiny/resolve/main/x.gguf": ("main", ("x.gguf",)),
    "python download-model.py --specific-file x.gguf ann/tiny --branch 4.0bpw": ("4.0bpw", ("x.gguf",)),
}  # fmt: skip


@pytest.mark.parametrize("start", _STARTS)
@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_that_is_shown_to_be_copied(command: str, start: str) -> None:
    """The values of other options are neither files nor repositories."""
    assert parse_address(start.format(command)) == HubAddress("ann/tiny", *_COMMANDS[command])


_PYTHON: dict[str, tuple[str, tuple[str, ...]]] = {
    'from_pretrained("ann/tiny")': ("main", ()),
    "from transformers import AutoTokenizer\n\ntokenizer = AutoTokenizer.from_pretrained('ann/tiny')": ("main", ()),
    'AutoModelForCausalLM.from_pretrained("ann/tiny", revision="4.0bpw", device_map="auto")': ("4.0bpw", ()),
    'pipe = pipeline("text-generation", model="ann/tiny")': ("main", ()),
    'model_name = "ann/tiny"\nmodel = AutoModelForCausalLM.from_pretrained(model_name)': ("main", ()),
    'MODEL_ID = "ann/tiny"': ("main", ()),
    '# !pip install llama-cpp-python\nllm = Llama.from_pretrained(\n\trepo_id="ann/tiny",\n\tfilename="x.gguf",\n)': (
        "main", ("x.gguf",)
    ),
    'Llama.from_pretrained(repo_id="ann/tiny", filename="*Q4_K_M*")': ("main", ("Q4_K_M",)),
    'hf_hub_download("ann/tiny", "x.gguf")': ("main", ("x.gguf",)),
    "hf_hub_download(repo_id='ann/tiny', filename='x.gguf', revision='refs/pr/1')": ("refs/pr/1", ("x.gguf",)),
    'snapshot_download(repo_id = "ann/tiny")': ("main", ()),
    'llm = LLM(model="ann/tiny")': ("main", ()),
    "Try https://huggingface.co/ann/tiny, it is small.": ("main", ()),
    "FROM hf.co/ann/tiny:Q4_K_M": ("main", ("Q4_K_M",)),
    "tiny (https://huggingface.co/ann/tiny/tree/4.0bpw)": ("4.0bpw", ()),
}  # fmt: skip


@pytest.mark.parametrize("text", _PYTHON)
@pytest.mark.parametrize("line", ["\n", " "], ids=["lines", "one line"])
def test_lines_of_python_and_sentences_with_an_address(text: str, line: str) -> None:
    """As a model's page shows them under "Use this model"; a field of one line joins them."""
    assert parse_address(text.replace("\n", line)) == HubAddress("ann/tiny", *_PYTHON[text])


@pytest.mark.parametrize(
    ("path", "readings"),
    [
        ("tree/feature/x", ["feature x", "feature/x "]),
        ("blob/a/b/x.gguf", ["a b/x.gguf", "a/b x.gguf", "a/b/x.gguf "]),
        ("tree/main/feature/x", ["main feature/x"]),
        ("tree/a%2Fb/x", ["a/b x"]),
        ("tree/refs/pr/1/x", ["refs/pr/1 x"]),
        ("resolve/1/2/3/4/5/6", ["1 2/3/4/5/6", "1/2 3/4/5/6", "1/2/3 4/5/6", "1/2/3/4 5/6"]),
    ],
)
def test_a_branch_with_slashes_may_be_longer_than_it_looks(path: str, readings: list[str]) -> None:
    found = parse_address(f"https://huggingface.co/ann/tiny/{path}").readings()
    assert [f"{each.branch} {''.join(each.names)}" for each in found] == readings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *((text, "repository") for text in ("", "tiny", "ann/tiny/x", "../etc", "ann/..", "ann/ti ny", "ftp://a/b/c")),
        ("a/b:../c", "branch"),
        ("a/b/resolve/main/../x", "points outside"),
        ("https://hf.co/a/b/resolve/main/%2e%2e/x", "points outside"),
        ("https://hf.co/a/b/resolve/main/..%2f..%2fx", "points outside"),
        ("https://hf.co/%2e%2e/b", "repository"),
        ("https://huggingface.co/datasets/ann/rows", "data set"),
        ("datasets/ann/rows", "data set"),
        ("https://huggingface.co/organizations/ann", "an organization"),
        ('snapshot_download(repo_id="ann/rows", repo_type="dataset")', "data set"),
        *((f"https://{host}/ann", "only a user or only") for host in ("huggingface.co", "www.hf.co", "hf-mirror.com")),
        ("https://huggingface.co/models?search=tiny", "unknown format"),
        ("1. **ann**", "the user's name before it is missing"),
        ("either https://hf.co/a/b or https://hf.co/a/c", "several addresses"),
        ("hf.co/spaces/ann/app", "space"),
        ("https://huggingface.co/collections/ann/x-1", "collection"),
        ("https://github.com/ann/tiny", "not the model hub"),
        ("https://ollama.com/library/tiny", "not the model hub"),
        ("https://lmstudio.ai/models/ann/tiny", "not the model hub"),
        ("hf://datasets/ann/rows", "data set"),
        ("hf download --repo-type dataset ann/rows", "data set"),
        ("hf download ann/app --repo-type=space", "space"),
        ("hf download ann/tiny ../x", "points outside"),
        ("hf download ann/tiny --include '../*'", "points outside"),
        ("https://hf.co/a/b/resolve/main/x.gguf https://hf.co/a/c/resolve/main/y.gguf", "several addresses"),
        ("ollama run llama3", "the user's name before it is missing"),
        ("ann/tiny and more", "'and more' is not a file, a quantization or a branch. Enter ann/tiny alone"),
        *(
            (form.format(f"ann/tiny{mark}{word}"), f"'{word}' is taken for a {kind}. Enter {enter}")
            for form in ("{}", "https://huggingface.co/{}", "Model: {}", '"{}"')
            for mark in (" ", "  - ", ", ", "\n")
            for word, kind, enter in (
                ("GGUF", "format", "ann/tiny, or ann/tiny-GGUF if that is its name"),
                ("exl2", "format", "ann/tiny, or ann/tiny-exl2 if that is its name"),
                ("4-bit", "format", "ann/tiny, or ann/tiny-4-bit if that is its name"),
                ("main", "branch", "ann/tiny:main, or ann/tiny alone"),
                ("gptq-4bit-32g", "branch", "ann/tiny:gptq-4bit-32g, or ann/tiny alone"),
            )
        ),
        ("ann/tiny (GGUF)", "'GGUF' is taken for a format"),
        ("ann/tiny:Q4_K_M Q8_0", "branch"),
        ("ann/tiny bob/big", "repository"),
        ("lmstudio://settings", "repository"),
        ("lmstudio://open_from_hf?file=x.gguf", "repository"),
        ("lmstudio://open_from_hf?model=ann/tiny&file=../x.gguf", "points outside"),
        ("git clone https://github.com/ann/tiny", "github.com is not the model hub"),
        ("https://chat.lmstudio.ai/models/ann/tiny", "not the model hub"),
        ("\x00/\x00", "repository"),
        ("a/b" * 5000, "repository"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_a_sentence(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as error:
        parse_address(text)
    assert len(str(error.value)) < 500


def files(text: str) -> list[RemoteFile]:
    return [RemoteFile(path, 1) for path in text.split()]


_SHARDS = "model-00001-of-00002.safetensors model-00002-of-00002.safetensors"
_TWICE = {
    f"config.json tokenizer.json {_SHARDS} consolidated.safetensors params.json": "consolidated.safetensors",
    f"config.json {_SHARDS} consolidated-00001-of-00002.safetensors": "consolidated-00001-of-00002.safetensors",
    "config.json consolidated.safetensors params.json": "",
    "config.json model.safetensors pytorch_model.bin": "pytorch_model.bin",
    f"config.json model.safetensors {_SHARDS}": _SHARDS,
    "config.json model.safetensors model.fp16.safetensors": "model.fp16.safetensors",
    f"config.json {_SHARDS} model.fp16-00001-of-00002.safetensors": "model.fp16-00001-of-00002.safetensors",
    "config.json pytorch_model.bin training_args.bin optimizer.pt": "training_args.bin optimizer.pt",
    "config.json pytorch_model.bin rng_state.pth": "rng_state.pth",
    "config.json pytorch_model-00001-of-00001.bin consolidated.00.pth": "consolidated.00.pth",
    "config.json pytorch_model.bin 4bpw/output.safetensors": "4bpw/output.safetensors",
    "config.json adapter_model.safetensors consolidated.safetensors": "",
    "config.json output.safetensors": "",
    "config.json model.fp16.safetensors": "",
}


@pytest.mark.parametrize("all_", _TWICE)
def test_no_weights_come_twice(all_: str) -> None:
    """One format of each weight; what is left out is a duplicate: every file is downloaded or listed in the row."""
    got = {file.path for file in select_files(files(all_), ())}
    assert got == set(all_.split()) - set(_TWICE[all_].split())


_REPO = files(
    "README.md a.Q4_K_M.gguf a.Q8_0.gguf mmproj-a.Q8_0.gguf UD-Q4_K_XL/a-UD-Q4_K_XL-00001-of-00002.gguf "
    "UD-Q4_K_XL/a-UD-Q4_K_XL-00002-of-00002.gguf a.UD-IQ2_M.gguf a-MXFP4_MOE.gguf a.fp16.gguf Q3_K_S/w.gguf"
)


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("*Q4_K*gguf", 3, "UD-Q4_K_XL/a-UD-Q4_K_XL-00001-of-00002.gguf"),
        ("UD-Q4_K_XL/*.gguf", 2, "UD-Q4_K_XL/a-UD-Q4_K_XL-00001-of-00002.gguf"),
        ("*mmproj*", 1, "mmproj-a.Q8_0.gguf"),
        ("?.Q8_0.gguf", 1, "a.Q8_0.gguf"),
        ("Q4_K_M", 1, "a.Q4_K_M.gguf"),
        ("q8_0", 1, "a.Q8_0.gguf"),
        ("mxfp4_moe", 1, "a-MXFP4_MOE.gguf"),
        ("FP16", 1, "a.fp16.gguf"),
        ("q3_k_s", 1, "Q3_K_S/w.gguf"),
        ("UD-Q4_K_XL", 2, "UD-Q4_K_XL/a-UD-Q4_K_XL-00001-of-00002.gguf"),
        ("UD-Q4_K_XL/", 2, "UD-Q4_K_XL/a-UD-Q4_K_XL-00001-of-00002.gguf"),
        ("Q4_K_XL", 2, "UD-Q4_K_XL/a-UD-Q4_K_XL-00001-of-00002.gguf"),
        ("iq2_m", 1, "a.UD-IQ2_M.gguf"),
        ("UD-Q4_K_XL/a-UD-Q4_K_XL-00002-of-00002.gguf", 2, "UD-Q4_K_XL/a-UD-Q4_K_XL-00001-of-00002.gguf"),
    ],
)
def test_a_file_a_folder_or_a_quantization_may_be_named(name: str, count: int, first: str) -> None:
    got = select_files(_REPO, [name])
    assert (len(got), min(file.path for file in got)) == (count, first)


_BESIDE = (
    "imatrix.dat imatrix.gguf a-imatrix.gguf a.mmproj-Q8_0.gguf mmproj-F16.gguf a-BF16-imatrix.gguf mm/mmproj-F16.gguf"
)


@pytest.mark.parametrize("beside", _BESIDE.split())
def test_what_lies_beside_a_model_is_no_model_to_choose(beside: str) -> None:
    one = files(f"README.md a.Q4_K_M.gguf {beside}")
    assert [file.path for file in select_files(one, ())] == ["a.Q4_K_M.gguf"]
    assert [each.name for each in list_file_choices(one) if each.quantization] == ["a.Q4_K_M.gguf"]
    assert not list_model_folders(one)
    with pytest.raises(InvalidInput, match=r"2 GGUF files. Choose one: Q4_K_M, Q8_0\."):
        select_files([*one, *files("a.Q8_0.gguf")], ())
    for kind in ("F16", "BF16"):
        with pytest.raises(InvalidInput, match=f"no file '{kind}'"):
            select_files(one, [kind])
    assert [file.path for file in select_files(one, [beside])] == [beside]


def test_a_quantization_that_is_there_twice_or_not_is_a_sentence() -> None:
    with pytest.raises(InvalidInput, match=r"2 files of Q4_0. Choose one.*b\.Q4_0"):
        select_files(files("a.Q4_0.gguf b.Q4_0.gguf"), ["Q4_0"])
    with pytest.raises(InvalidInput, match="no file 'Q5_0'"):
        select_files(_REPO, ["Q5_0"])


def test_the_first_part_of_a_quantization_names_the_only_one_or_asks() -> None:
    repo = files("a.Q4_K_M.gguf a.Q4_K_S.gguf a.Q8_0.gguf a.Q40_X.gguf")
    assert select_files(repo, ["Q8"]) == files("a.Q8_0.gguf")
    with pytest.raises(InvalidInput, match=r"2 files of Q4. Choose one: a\.Q4_K_M\.gguf, a\.Q4_K_S\.gguf\."):
        select_files(repo, ["Q4"])


def test_weights_in_folders_are_offered() -> None:
    repo = files("README.md 4bpw/config.json 4bpw/output.safetensors 6bpw/config.json 6bpw/output.safetensors doc/x.md")
    with pytest.raises(InvalidInput, match=r"are in folders: 4bpw, 6bpw.*/tree/main/4bpw"):
        select_files(repo, ())
    assert [each.name for each in list_model_folders(repo)] == ["4bpw", "6bpw"]
    assert [file.path for file in select_files(repo, ["6bpw"])] == ["6bpw/config.json", "6bpw/output.safetensors"]
    for folder, slash in itertools.product(("4bpw", "6bpw"), ("", "/")):
        assert select_files(repo, [folder + slash]) == list(
            next(e.files for e in list_model_folders(repo) if e.name == folder)
        )
