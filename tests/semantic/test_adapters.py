import json

import pytest
import torch
from peft import PeftConfig
from safetensors.torch import load_file
from transformers import (
    AutoModelForImageTextToText,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

from semantic.adapters import add_lora, load_lora, lora_parameters, merge_lora, save_lora, start_lora, without_lora
from tests.semantic.models import HIDDEN, build_sensor_model, changed, parameters_of

RANK, BLOCKS = 2, 2
SMALL = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


def adapted(seed=3, r=RANK, lora_alpha=4):
    """A tiny LLaVA whose LoRA has moved away from zero."""
    model = build_sensor_model()
    torch.manual_seed(seed)
    for parameter in add_lora(model, r=r, lora_alpha=lora_alpha):
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def hidden_with_gradient(model):
    embeds = torch.randn(2, 6, HIDDEN, generator=torch.Generator().manual_seed(0))
    return model.get_decoder()(inputs_embeds=embeds, use_cache=False).last_hidden_state


hidden = torch.no_grad()(hidden_with_gradient)


def test_lora_sits_on_the_language_models_keys_and_values_and_nowhere_else():
    model = adapted()
    found = {
        name.removesuffix(".weight").replace(".lora_A.default", "").replace(".lora_B.default", "")
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    expected = {
        f"model.language_model.layers.{block}.self_attn.{part}"
        for block in range(BLOCKS)
        for part in ("k_proj", "v_proj")
    }
    assert found == expected
    assert any("vision" in name and "k_proj" in name for name, _ in model.named_modules())  # which has the same names


def test_as_many_parameters_are_trained_as_lora_has():
    model = build_sensor_model()
    parameters = add_lora(model, r=RANK)
    assert sum(p.numel() for p in parameters) == BLOCKS * 2 * 2 * RANK * HIDDEN
    assert {id(p) for p in parameters} == {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for p in parameters} == {id(p) for p in lora_parameters(model)}


@pytest.mark.parametrize("r", [RANK, RANK + 3])
def test_a_higher_rank_starts_with_what_a_lower_one_has_learned(r):
    learned = adapted()
    model = build_sensor_model()
    add_lora(model, r=r, lora_alpha=2 * r)
    before = hidden(model)
    start_lora(model, learned)
    assert (hidden(model) - hidden(learned)).abs().max() < 1e-5 < (hidden(model) - before).abs().max()
    hidden_with_gradient(model).sum().backward()
    ups = {name: p for name, p in model.named_parameters() if "lora_B" in name}
    assert all(p.grad.abs().amin(0).gt(0).all() for name, p in ups.items()), "what is new would never move"


@pytest.mark.parametrize(("r", "lora_alpha"), [(RANK - 1, 2), (RANK, 5)])
def test_lora_starts_from_no_higher_rank_and_no_other_scale(r, lora_alpha):
    with pytest.raises(
        ValueError, match=f"rank {r} and lora_alpha {lora_alpha} cannot start from rank 2 and lora_alpha 4"
    ):
        start_lora(adapted(r=r, lora_alpha=lora_alpha), adapted())


def test_merged_into_the_weights_lora_computes_the_same():
    tuned, base = adapted(), build_sensor_model()
    before = parameters_of(base)
    merge_lora(base, tuned)
    assert (hidden(base) - hidden(tuned)).abs().max() < 1e-4
    assert len(changed(before, base)) == 2 * BLOCKS


def test_a_fresh_lora_changes_nothing():
    model = build_sensor_model()
    before = hidden(model)
    add_lora(model, r=RANK)
    assert torch.equal(hidden(model), before)


def test_without_lora_the_model_is_the_pretrained_one_and_only_there():
    base, model = build_sensor_model(), adapted()
    with_lora = hidden(model)
    with without_lora(model):
        assert torch.equal(hidden(model), hidden(base))
    assert torch.equal(hidden(model), with_lora)
    assert not torch.allclose(with_lora, hidden(base), atol=0.1)


def test_an_error_inside_the_block_switches_lora_on_again():
    model = adapted()
    with_lora = hidden(model)
    with pytest.raises(ZeroDivisionError), without_lora(model):
        _ = 1 / 0
    assert torch.equal(hidden(model), with_lora)


def test_a_saved_lora_gives_the_same_outputs_and_is_frozen(tmp_path):
    model = adapted()
    save_lora(model, tmp_path)
    again = build_sensor_model()
    load_lora(again, tmp_path)
    assert torch.equal(hidden(again), hidden(model))
    assert not changed(parameters_of(model), again)
    assert not any(p.requires_grad for p in again.parameters())


def test_a_saved_lora_is_in_pefts_own_layout_and_names_no_folder(tmp_path):
    model = adapted()
    save_lora(model, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    config = PeftConfig.from_pretrained(str(tmp_path))
    assert (config.peft_type, config.r) == ("LORA", RANK)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] is None
    assert len(load_file(tmp_path / "adapter_model.safetensors")) == 2 * 2 * BLOCKS
    other = AutoModelForImageTextToText.from_config(model.config)
    other.load_state_dict({k: v for k, v in build_sensor_model().state_dict().items()})
    other.load_adapter(str(tmp_path))  # as anyone would load it, without this project
    assert torch.equal(hidden(other.eval()), hidden(model))


@pytest.mark.parametrize("change", [{"num_hidden_layers": 3}, {"num_hidden_layers": 1}, {"hidden_size": 16}])
def test_a_lora_of_another_base_model_is_refused(tmp_path, change):
    save_lora(adapted(), tmp_path)
    config = build_sensor_model().config
    for key, value in change.items():
        setattr(config.text_config, key, value)
    other = AutoModelForImageTextToText.from_config(config)
    with pytest.raises(ValueError, match=r"adapter_model.safetensors does not fit the sensor.*another base model"):
        load_lora(other, tmp_path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=9)),
            "GPT2Model has queries, keys and values in one projection, c_attn; .*give add_lora its target_modules",
        ),
        (
            Phi3ForCausalLM(Phi3Config(**SMALL, num_key_value_heads=1, pad_token_id=0)),
            "Phi3Model has queries, keys and values in one projection, qkv_proj",
        ),
        (
            MambaForCausalLM(MambaConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, state_size=4)),
            "MambaModel has queries, keys and values in one projection, in_proj|MambaModel has no k_proj and v_proj",
        ),
    ],
    ids=["gpt2", "phi3", "mamba"],
)
def test_a_model_without_projections_of_keys_and_values_alone_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        add_lora(model)
    with pytest.raises(ValueError, match="has no LoRA yet"):
        lora_parameters(model)


def test_a_fused_projection_takes_lora_when_it_is_named():
    model = Phi3ForCausalLM(Phi3Config(**SMALL, num_key_value_heads=1, pad_token_id=0))
    assert len(add_lora(model, r=2, target_modules=r".*\.qkv_proj")) == 2
