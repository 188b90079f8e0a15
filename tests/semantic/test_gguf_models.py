"""Language models from GGUF files, made here by the format's own writer: the same numbers, or one clear line."""

import zipfile

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from semantic.gguf_models import main, save_folder
from semantic.model_files import ModelFileError
from semantic.task_agent import TaskAgent

HIDDEN, INNER, HEADS, KV_HEADS, BLOCKS = 64, 96, 4, 2, 2
WORDS = ["<unk>", "<s>", "</s>", "Ġ", *"abcdefghijklmnopqrstuvwxyz", "?", ".", "is", "Ġa", "at"]
TEMPLATE = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}"


def write_gguf(path, architecture="llama", seed=0, leave_out=()):
    """Write a tiny Llama whose matrices are quantised to eight bits; return its tensors as they were stored."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(BLOCKS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 3] + [1] * (len(WORDS) - 3))
    writer.add_token_merges(["i s", "Ġ a", "a t"])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    kv = HIDDEN // HEADS * KV_HEADS
    shapes = {"token_embd": (len(WORDS), HIDDEN), "output": (len(WORDS), HIDDEN), "output_norm": (HIDDEN,)}
    for block in range(BLOCKS):
        shapes |= {
            f"blk.{block}.{name}": shape
            for name, shape in {
                "attn_norm": (HIDDEN,),
                "ffn_norm": (HIDDEN,),
                "attn_q": (HIDDEN, HIDDEN),
                "attn_k": (kv, HIDDEN),
                "attn_v": (kv, HIDDEN),
                "attn_output": (HIDDEN, HIDDEN),
                "ffn_gate": (INNER, HIDDEN),
                "ffn_up": (INNER, HIDDEN),
                "ffn_down": (HIDDEN, INNER),
            }.items()
        }
    stored = {}
    for name, shape in shapes.items():
        numbers = rng.normal(size=shape).astype(np.float32)
        if len(shape) == 1:
            stored[name] = np.abs(numbers) + 0.5
            writer.add_tensor(f"{name}.weight", stored[name])
        else:
            packed = gguf.quants.quantize(numbers, gguf.GGMLQuantizationType.Q8_0)
            stored[name] = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)
            if name not in leave_out:
                writer.add_tensor(f"{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stored


@pytest.fixture
def file(tmp_path):
    write_gguf(tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"


@pytest.mark.parametrize(("name", "dtype", "tolerance"), [("float16", torch.float16, 2**-11), ("float32", None, 0)])
def test_the_folder_holds_the_files_numbers_no_longer_quantised(tmp_path, name, dtype, tolerance):
    stored = write_gguf(tmp_path / "tiny.gguf")
    main(tmp_path / "tiny.gguf", tmp_path / "model", name)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
    assert next(model.parameters()).dtype == (dtype or torch.float32)
    assert not hasattr(model.config, "quantization_config")
    weights = {
        "token_embd": model.model.embed_tokens,
        "output": model.lm_head,
        "blk.1.ffn_down": model.model.layers[1].mlp.down_proj,
        "blk.0.attn_v": model.model.layers[0].self_attn.v_proj,
        "blk.0.ffn_norm": model.model.layers[0].post_attention_layernorm,
    }
    for key, module in weights.items():
        read = module.weight.detach().float().numpy()
        np.testing.assert_allclose(read, stored[key], rtol=tolerance, atol=1e-7, err_msg=key)


def test_the_folder_is_a_task_agent_with_the_files_tokenizer_and_chat_template(file, tmp_path, capsys):
    main(file, tmp_path / "model")
    assert "LlamaForCausalLM" in capsys.readouterr().out
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.decode(tokenizer("is a cat ?", add_special_tokens=False)["input_ids"]) == "is a cat ?"
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "<s>hi</s>"
    agent = TaskAgent(AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32), tokenizer)
    assert agent.hidden_size == HIDDEN
    assert len(agent.answer(["is a cat ?", "at"])) == 2
    assert sorted(path.suffix for path in (tmp_path / "model").iterdir() if path.suffix == ".safetensors")
    assert not list((tmp_path / "model").glob("*.bin"))


def test_a_wheel_with_one_such_file_gives_the_same_folder(file, tmp_path):
    with zipfile.ZipFile(tmp_path / "some-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(file, "some/weights.gguf")
        wheel.writestr("some/__init__.py", "raise RuntimeError('nothing of a wheel is run')")
    save_folder(file, tmp_path / "one")
    save_folder(tmp_path / "some-1.0-py3-none-any.whl", tmp_path / "other")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "other")]
    assert weights[0] == weights[1]


def refusal(file, out):
    with pytest.raises((ModelFileError, FileExistsError)) as refused:
        save_folder(file, out)
    assert "\n" not in str(refused.value)
    assert not list(out.glob("*.safetensors"))
    return str(refused.value)


def test_what_is_no_such_file_is_refused_in_one_line(file, tmp_path):
    out = tmp_path / "model"
    assert "is no file; give a .gguf file, or a wheel" in refusal(tmp_path / "none.gguf", out)
    assert "is no file" in refusal(tmp_path, out)
    (tmp_path / "text.gguf").write_text("GGML is older")
    assert "text.gguf is no GGUF file: it does not begin with GGUF" in refusal(tmp_path / "text.gguf", out)
    whole = file.read_bytes()
    for length in (4, 10, 200, len(whole) // 2):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        assert "cannot be loaded" in refusal(tmp_path / "cut.gguf", out)


def test_a_model_that_is_unknown_or_lacks_weights_is_refused_in_one_line(tmp_path):
    write_gguf(tmp_path / "other.gguf", architecture="nonesuch")
    assert "nonesuch" in refusal(tmp_path / "other.gguf", tmp_path / "model")
    write_gguf(tmp_path / "part.gguf", leave_out=("blk.1.ffn_up",))
    assert "up_proj" in refusal(tmp_path / "part.gguf", tmp_path / "model")


@pytest.mark.parametrize("names", [[], ["a.gguf", "b.gguf"]])
def test_an_archive_has_to_hold_exactly_one(file, tmp_path, names):
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as wheel:
        wheel.writestr("readme.txt", "")
        for name in names:
            wheel.write(file, name)
    message = refusal(tmp_path / "some.whl", tmp_path / "model")
    assert f"some.whl holds {len(names)} files *.gguf, one is needed" in message


def test_a_damaged_archive_is_refused_in_one_line(file, tmp_path):
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as wheel:
        wheel.write(file, "a.gguf")
    content = bytearray((tmp_path / "some.whl").read_bytes())
    content[200] ^= 0xFF  # in the stored file: its checksum no longer fits
    (tmp_path / "some.whl").write_bytes(content)
    assert "damaged archive" in refusal(tmp_path / "some.whl", tmp_path / "model")


def test_a_folder_that_holds_a_model_is_left_alone(file, tmp_path):
    save_folder(file, tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="holds a model already; give another folder"):
        save_folder(file, tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before


def test_an_unknown_precision_is_refused(file, tmp_path):
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16, float16, got 'int4'"):
        main(file, tmp_path / "model", "int4")
