"""Pretrains, fine-tunes and evaluates SimCLR. `python run.py --help` lists the settings."""

from tf_simclr import command_line

if __name__ == "__main__":
    command_line.main()
