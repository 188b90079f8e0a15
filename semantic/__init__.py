"""The agents: sensor agent, token-and-channel code, task agent. PyTorch and transformers; never TensorFlow."""

import os

os.environ.setdefault("USE_TF", "0")  # else transformers may load an installed TensorFlow

from semantic.agent_link import AgentLink
from semantic.jtcc import JTCC, TokenScaler
from semantic.llm_obfuscation import LLMObfuscator
from semantic.sensor_agent import SensorAgent
from semantic.task_agent import TaskAgent

__all__ = ["JTCC", "AgentLink", "LLMObfuscator", "SensorAgent", "TaskAgent", "TokenScaler"]
