"""Write the hashes of folders of weights anew: ``python -m semantic.rehash [FOLDER…]``, by default of all that ship.

What lies in the folders is taken for right. Use it where files were changed on purpose, and on folders from before
there were hashes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from semantic import agent_settings, deepjscc
from semantic.agent_link import PRETRAINED
from semantic.model_files import HASHES, ModelFileError, check_settings, hash_file, read_settings, write_settings


def rehash(folder: Path) -> None:
    """Write the hashes of a folder of agents, and of their models' folders, or of a folder of an image code.

    Raises
    ------
    ModelFileError
        If the folder holds neither, or its settings are none.
    """
    agents, image_code = folder / agent_settings.SETTINGS, folder / deepjscc.SETTINGS
    if agents.exists():
        settings = _without_hashes(read_settings(agents))
        given = {name: settings.get(name) for name in agent_settings.MODELS}
        settings |= {name: _without_hashes(entry) for name, entry in given.items() if isinstance(entry, dict)}
        check_settings(agents, settings, TypeAdapter(agent_settings.AgentSettings))
        agent_settings.write_agent_settings(folder, settings)
    elif image_code.exists():
        settings = _without_hashes(read_settings(image_code))
        check_settings(image_code, settings, TypeAdapter(deepjscc.DeepJSCCSettings))
        write_settings(image_code, settings, {deepjscc.WEIGHTS: hash_file(folder / deepjscc.WEIGHTS)})
    else:
        raise ModelFileError(folder, f"holds neither {agents.name} nor {image_code.name}")


def main(arguments: Sequence[str]) -> None:
    """Write the hashes of the named folders, or of all that ship."""
    settings = (agent_settings.SETTINGS, deepjscc.SETTINGS)
    shipped = sorted({path.parent for name in settings for path in PRETRAINED.glob(f"*/{name}")})
    for folder in [Path(name).expanduser() for name in arguments] or shipped:
        rehash(folder)
        print(folder)


def _without_hashes(settings: dict) -> dict:
    return {key: value for key, value in settings.items() if key != HASHES}


if __name__ == "__main__":
    main(sys.argv[1:])
