"""What a pair takes, counted on the meta device, against published numbers, closed forms and the pair itself."""

import random

import pytest
import torch
from transformers import AutoConfig, LlamaConfig, PaliGemmaConfig

from semantic import AgentLink, sizes
from semantic.agent_link import PRETRAINED


def test_the_papers_pair_has_the_published_numbers_of_parameters():
    measured = sizes.measure(*sizes.paper_pair(), batch=1)
    assert (measured.sensor, measured.task_agent) == (7_063_427_072, 6_738_415_616)
    assert measured.lora == 32 * 2 * 16 * (4096 + 4096)  # blocks, projections, rank
    assert measured.frozen_bytes == 2 * (7_063_427_072 + 6_738_415_616)


@pytest.mark.parametrize("name", ["clevr-mini", "clevr-mini-uncompressed"])
def test_a_shipped_pair_is_counted_as_it_is_when_it_is_loaded(name):
    agents = AgentLink.from_pretrained(name)
    configs = (AutoConfig.from_pretrained(PRETRAINED / part) for part in ("sensor", "task-agent"))
    rank = agents.sensor.model.peft_config["default"].r
    width = None if name.endswith("uncompressed") else agents.width
    measured = sizes.measure(*configs, width=width, r=rank, batch=1)
    named = dict(agents.sensor.model.named_parameters())
    lora = sum(p.numel() for n, p in named.items() if "lora_" in n)
    assert measured.lora == lora
    assert measured.sensor == sum(p.numel() for p in named.values()) - lora
    assert measured.task_agent == sum(p.numel() for p in agents.task_agent.model.parameters())
    assert measured.code == sum(p.numel() for p in agents.code.parameters()) + agents.sensor.slots.numel()


def test_operations_and_memory_of_a_language_model_are_those_of_its_matrix_products():
    """A frozen block multiplies its input by its weights, and the gradient by the same weights: twice each."""
    rng = random.Random(7)
    for _ in range(4):
        layers, heads, batch, length = rng.randint(1, 3), rng.choice([2, 4]), rng.randint(1, 4), rng.randint(5, 40)
        hidden, inner = 16 * heads, 8 * rng.randint(2, 9)
        config = LlamaConfig(
            vocab_size=50,
            hidden_size=hidden,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
        )
        with torch.device("meta"):
            model = sizes.AutoModelForCausalLM.from_config(config).requires_grad_(False)
        num_bytes, flops = sizes._step(model, batch, length, torch.float32, False)
        weights = layers * (4 * hidden**2 + 3 * hidden * inner)
        attention = layers * 2 * hidden * length  # queries by keys, weights by values, for every position
        forward = 2 * batch * length * (weights + attention)
        assert flops == forward + 2 * batch * length * (weights + 2 * attention)  # backward: to both factors
        fewer_bytes, more_flops = sizes._step(model, batch, length, torch.float32, True)
        last_product = 2 * batch * length * layers * hidden * inner  # of a layer: nothing on the way back needs it
        assert more_flops == flops + forward - last_product  # every layer is computed once more
        assert fewer_bytes < num_bytes
        assert sizes._step(model, 2 * batch, length, torch.float32, False)[1] == 2 * flops


def test_a_sensor_that_does_not_say_how_long_an_image_is_cannot_be_counted():
    sensor = PaliGemmaConfig()
    assert not hasattr(sensor, "image_seq_length")
    with pytest.raises(ValueError, match="a paligemma has no image_seq_length"):
        sizes.measure(sensor, LlamaConfig())
