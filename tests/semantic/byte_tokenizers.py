"""Tokenizers like those of language models: bytes in pairs, with and without a first token, with a chat template."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXTS = [
    "what color is the small ball left of the big shiny thing ? red , green , light brown , tennis racket , yes , no",
    "how many things are there ? 0 1 2 3 4 5 6 7 8 9 10 , user assistant , a question about the color of a thing .",
    "Answer the question using a single word or phrase.\n",
]


def byte_tokenizer(*, front=(), behind=(), chat=None, special=(), bos="<|im_start|>", eos="<|im_end|>", **named):
    """Byte-level pairs, as GPT-2's and SmolLM2's; `front` and `behind` are the tokens around every text.

    `named` are special tokens that get an attribute, such as ``boi_token``.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = list(dict.fromkeys([bos, eos, "<|endoftext|>", *special, *named.values()]))
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=names, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    if front or behind:
        around = [(name, tokenizer.token_to_id(name)) for name in (*front, *behind)]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join([*front, "$A", *behind]), special_tokens=around
        )
    more = {"extra_special_tokens": named or list(special)} if named or special else {}
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token="<|endoftext|>", **more
    )
    made.chat_template = chat
    return made
