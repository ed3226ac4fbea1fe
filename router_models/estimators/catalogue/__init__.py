"""A catalogue of intents: example prompts that say which tier answers prompts like them, edited without training."""
