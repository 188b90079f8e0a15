"""Side by side with the libraries that this project is measured against, in one process and on the same inputs."""
