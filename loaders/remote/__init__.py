"""Models on other servers: vLLM, SGLang, llama-server, TabbyAPI, or any other with OpenAI's routes."""
