"""The embedded latent diffusion model: autoencoder, denoiser and training."""
