"""The embedded CLIP: captions, tokenizer, network and training."""
