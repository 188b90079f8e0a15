"""Loading a sensor's processor: transformers' own, or, where that wants what only videos need, its part for images."""

from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, PreTrainedTokenizerBase
from transformers.models.auto.processing_auto import processor_class_from_name
from transformers.processing_utils import ProcessorMixin

from semantic.loading import load_part
from semantic.model_files import ModelFileError

IMAGES_ALONE = ("Qwen2VLProcessor", "Qwen2_5_VLProcessor")  # whose videos need torchvision, and whose images do not


class ImagesAlone:
    """The part of a processor that images and texts need, without that for videos.

    Parameters
    ----------
    kind : class of the processor
    image_processor : image processor of the same family
    tokenizer : PreTrainedTokenizerBase
    """

    def __init__(self, kind: type[ProcessorMixin], image_processor: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self.kind, self.image_processor, self.tokenizer = kind, image_processor, tokenizer
        self.image_token = "<|image_pad|>"
        self.image_token_id = int(tokenizer.convert_tokens_to_ids(self.image_token))  # type: ignore[arg-type]
        self.chat_template = tokenizer.chat_template

    def replace_image_token(self, image_inputs: dict, image_idx: int) -> str:
        """Return how an image stands in a prompt."""
        of_kind: Any = self.kind.replace_image_token
        return of_kind(self, image_inputs, image_idx)

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Render a conversation."""
        return self.tokenizer.apply_chat_template(conversation, **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write both parts."""
        self.image_processor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def load_processor(source: str | Path, model: Any, **options: Any) -> Any:
    """Load the processor of an image-text model, for images in Pillow's and NumPy's hands.

    Parameters
    ----------
    source : str or Path
        Folder or hub id.
    model : PreTrainedModel
        Model of the same source.
    **options
        Further arguments of `from_pretrained`.

    Raises
    ------
    ModelFileError
        If it cannot be loaded.
    """
    try:
        return load_part(AutoProcessor, source, backend="pil", **options)
    except ModelFileError:
        name = f"{type(model).__name__.removesuffix('ForConditionalGeneration')}Processor"
        if name not in IMAGES_ALONE:
            raise
    images = load_part(AutoImageProcessor, source, backend="pil", **options)
    kind: Any = processor_class_from_name(name)
    return ImagesAlone(kind, images, load_part(AutoTokenizer, source, **options))
