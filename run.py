"""Pretrains, fine-tunes and evaluates SimCLR. `python run.py --help` lists the settings."""

from tf_simclr.cli import main

if __name__ == "__main__":
    main.main()
