"""`tf-simclr show`: draws pictures of data, runs and features. One module for each subcommand."""
