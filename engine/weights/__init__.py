"""A checkpoint's files: a folder, a GGUF file, or a name on the Hugging Face hub, as a folder that can be loaded."""
