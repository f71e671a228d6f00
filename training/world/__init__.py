"""A world of toys rendered with MuJoCo: toys, surfaces, scenes, pictures and their ground truth."""
